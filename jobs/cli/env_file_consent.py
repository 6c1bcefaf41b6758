"""`--trust-env-file`, and the question on a terminal that replaces it (jobs/model/api_target.py: Consent)."""

import sys

import click

from askmill.config.text import safe_text
from askmill.jobs.cli.help_groups import RUNNING, option
from askmill.jobs.model.api_target import Consent

TRUST = option(
    RUNNING,
    "--trust-env-file",
    is_flag=True,
    help="Send the environment's API key to the address, and use it for the Redis, that .env names.",
)


def consent_of(trusted: bool) -> Consent:
    """The option's answer; without the option the user is asked, if there is a terminal."""
    on_terminal = sys.stdin.isatty() and sys.stderr.isatty()
    return Consent(trusted, _confirm if on_terminal else None)


def _confirm(question: str) -> bool:
    return click.confirm(safe_text(question), err=True)

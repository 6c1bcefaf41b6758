"""`--trust-env-file`, and the question on a terminal that takes its place (config/trust.py)."""

import sys

import click

from askmill.config.text import safe_text
from askmill.jobs.model.api_target import Consent

TRUST = click.option(
    "--trust-env-file", is_flag=True, help="Send the environment's key to the address that .env names."
)


def consent_of(given: bool) -> Consent:
    """What the option says; without it the person is asked, where a terminal is there for it."""
    on_terminal = sys.stdin.isatty() and sys.stderr.isatty()
    return Consent(given, _confirmed if on_terminal else None)


def _confirmed(question: str) -> bool:
    return click.confirm(safe_text(question), err=True)

"""The question on a terminal that replaces `--trust-env-file` (jobs/model/api_target.py: Consent)."""

import sys

import click

from askmill.config.text import safe_text
from askmill.jobs.model.api_target import Consent


def consent_of(trusted: bool) -> Consent:
    """The option's answer; without the option the user is asked, if there is a terminal."""
    on_terminal = sys.stdin.isatty() and sys.stderr.isatty()
    return Consent(trusted, _confirm if on_terminal else None)


def _confirm(question: str) -> bool:
    return click.confirm(safe_text(question), err=True)

"""`chat`: talk to the profile's assistant before paying for a file."""

import asyncio
import sys
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from askmill.config.settings import Settings, load_settings
from askmill.jobs.cli.env_file_consent import TRUST
from askmill.jobs.cli.exit_codes import say
from askmill.jobs.cli.options import PROFILE, profile_options
from askmill.jobs.cli.result_options import Command
from askmill.jobs.cli.run import asked_target, without_paid
from askmill.jobs.local import EmulatorService, ServiceLease
from askmill.jobs.model.api_target import Target
from askmill.jobs.model.errors import ApiUnavailable
from askmill.jobs.model.profile import Profile, Resources
from askmill.jobs.submit.profile_loader import build_profile, refuse_unsupported, warnings

if TYPE_CHECKING:
    from openai import AsyncOpenAI

ENDS = frozenset({"exit", "quit"})


def _profile_only(command: Command) -> Command:
    for option in reversed(PROFILE):
        command = option(command)
    return command


@click.command("chat")
@click.option(
    "--offline", is_flag=True, help="Let the emulator answer, even when a key is set: no model, no cost."
)
@click.option("--new", is_flag=True, help="Begin a new thread.")
@TRUST
@_profile_only
def chat_command(offline: bool, new: bool, trust_env_file: bool, **given: Any) -> int:
    """Talk to the profile's assistant in the terminal.

    Answers and tool calls are shown as they come. Assistant and thread are kept for the next start; `exit`
    ends.
    """
    settings = load_settings()
    target = asked_target(settings, offline=offline, trust_env_file=trust_env_file)
    options = without_paid(given) if offline else given
    profile = build_profile(given["profile"], profile_options(options), settings.model, offline=offline)
    refuse_unsupported(profile, target.api)
    for warning in warnings(profile):
        say(f"Note: {warning}")
    with ExitStack() as stack:
        if offline:
            emulator = stack.enter_context(ServiceLease(EmulatorService(settings.data_dir)))
            target = replace(target, base_url=emulator.wait_ready())
        runner = stack.enter_context(asyncio.Runner())
        _talk(settings, target, profile, runner, new=new)
    return 0


def _talk(settings: Settings, target: Target, profile: Profile, runner: asyncio.Runner, *, new: bool) -> None:
    from openai import OpenAIError  # noqa: PLC0415 -- half a second that `--help` does without

    from askmill.jobs.chat.render import Screen  # noqa: PLC0415
    from askmill.jobs.chat.session import ChatTarget, Memory, begin, talk_of  # noqa: PLC0415
    from askmill.jobs.openai_client.client import error_sentence  # noqa: PLC0415

    made = _client(target, ANSWER_S)
    resources = runner.run(_resources(settings, target, profile))
    partner = ChatTarget(made, target.api, profile, resources)
    talk = talk_of(partner, Screen(_write))
    memory = Memory(settings.data_dir, target.address, partner)
    try:
        kept, again = runner.run(begin(partner, talk, memory, new=new))
        _greet(profile, target, again=again)
        for question in iter(_asked, None):
            try:
                runner.run(talk.ask(kept, question))
            except OpenAIError as error:
                say(f"Error: {error_sentence(error, partner.client, partner.api)}")
    except OpenAIError as error:
        raise ApiUnavailable(error_sentence(error, partner.client, partner.api)) from None
    finally:
        runner.run(made.close())


def _client(target: Target, timeout_s: float) -> "AsyncOpenAI":
    from askmill.jobs.openai_client.client import make_client  # noqa: PLC0415

    organization, project = target.organization, target.project
    return make_client(target.key, target.base_url, organization, project, timeout_s, target.environ)


ANSWER_S = 600.0
"""Longest silence within a streamed answer: the SDK's own default."""


async def _resources(settings: Settings, target: Target, profile: Profile) -> Resources:
    """The profile's files at the API; uploaded at most once, as for a batch."""
    if not profile.files:
        return Resources()
    from askmill.jobs.local.open_store import open_store  # noqa: PLC0415 -- only files need Redis
    from askmill.jobs.openai_client.client import TIMEOUT_S  # noqa: PLC0415
    from askmill.jobs.submit.resources import Preparation  # noqa: PLC0415

    async with open_store(settings) as store, _client(target, TIMEOUT_S) as api_client:
        preparation = Preparation(store, "", api_client, target.api, say)
        return await preparation.prepare(profile, {}, {})


def _greet(profile: Profile, target: Target, *, again: bool) -> None:
    who = profile.name or profile.model or "the assistant"
    where = "the offline emulator" if target.offline else target.base_url
    thread = "the thread of last time goes on (--new begins another)" if again else "a new thread"
    say(f"{who} at {where}, {thread}; `exit` ends.")


def _asked() -> str | None:
    """The next question; None at `exit` and at the end of the input."""
    while True:
        try:
            line = input("> " if sys.stdin.isatty() else "").strip()
        except EOFError:
            return None
        if line.lower() in ENDS:
            return None
        if line:
            return line


def _write(text: str) -> None:
    click.echo(text, nl=False)

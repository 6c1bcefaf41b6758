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
from askmill.jobs.cli.help_groups import RUNNING, GroupedCommand, add_options, option
from askmill.jobs.cli.options import PROFILE, profile_options
from askmill.jobs.cli.run import OFFLINE, resolve_target, without_paid_options
from askmill.jobs.local import EmulatorService, ServiceLease
from askmill.jobs.model.api_target import Target
from askmill.jobs.model.errors import ApiUnavailable
from askmill.jobs.model.profile import Profile, Resources
from askmill.jobs.submit.profile_loader import build_profile, refuse_unsupported, warnings

if TYPE_CHECKING:
    from openai import AsyncOpenAI

EXIT_WORDS = frozenset({"exit", "quit"})
ANSWER_TIMEOUT_S = 600.0
"""Maximum silence within a streamed answer: the SDK's own default."""


@click.command("chat", cls=GroupedCommand)
@OFFLINE
@option(RUNNING, "--new", is_flag=True, help="Start a new thread.")
@TRUST
@add_options(PROFILE)
def chat_command(offline: bool, new: bool, trust_env_file: bool, **values: Any) -> int:
    """Chat with the profile's assistant in the terminal.

    Answers and tool calls appear as they arrive. The assistant and the thread are kept for the next start.
    Type `exit` to end.
    """
    settings = load_settings()
    target = resolve_target(settings, offline=offline, trust_env_file=trust_env_file)
    options = profile_options(without_paid_options(values, say) if offline else values)
    profile = build_profile(values["profile"], options, settings.model, offline=offline, api=target.api)
    refuse_unsupported(profile, target.api)
    for warning in warnings(profile, target, batch=False):
        say(f"Note: {warning}")
    with ExitStack() as stack:
        if offline:
            emulator = stack.enter_context(ServiceLease(EmulatorService(settings.data_dir)))
            target = replace(target, base_url=emulator.wait_ready())
        runner = stack.enter_context(asyncio.Runner())
        _chat(settings, target, profile, runner, new=new)
    return 0


def _chat(settings: Settings, target: Target, profile: Profile, runner: asyncio.Runner, *, new: bool) -> None:
    from openai import OpenAIError  # noqa: PLC0415 -- half a second that `--help` does without

    from askmill.jobs.chat.factory import chat_backend  # noqa: PLC0415 -- as above
    from askmill.jobs.chat.render import Screen  # noqa: PLC0415 -- as above
    from askmill.jobs.chat.session import ChatTarget, Memory, start_or_resume  # noqa: PLC0415 -- as above
    from askmill.jobs.openai_client.client import describe_error  # noqa: PLC0415 -- as above

    client = _client(target, ANSWER_TIMEOUT_S)
    resources = runner.run(_resources(settings, target, profile))
    chat_target = ChatTarget(client, target.api, profile, resources, settings.data_dir)
    backend = chat_backend(chat_target, Screen(_write))
    memory = Memory(settings.data_dir, target.address, chat_target)
    try:
        thread, resumed = runner.run(start_or_resume(chat_target, backend, memory, new=new))
        _greet(profile, target, resumed=resumed)
        for question in iter(_read_question, None):
            try:
                runner.run(backend.ask(thread, question))
            except OpenAIError as error:
                say(f"Error: {describe_error(error, chat_target.client, chat_target.api)}")
    except OpenAIError as error:
        raise ApiUnavailable(describe_error(error, chat_target.client, chat_target.api)) from None
    finally:
        runner.run(client.close())


def _client(target: Target, timeout_s: float) -> "AsyncOpenAI":
    from askmill.jobs.openai_client.client import make_client  # noqa: PLC0415 -- loads the SDK

    organization, project = target.organization, target.project
    return make_client(target.key, target.base_url, organization, project, timeout_s, target.proxy_environ)


async def _resources(settings: Settings, target: Target, profile: Profile) -> Resources:
    """The profile's files at the API; each is uploaded at most once, as for a batch."""
    if not profile.files:
        return Resources()
    from askmill.jobs.local.open_store import open_store  # noqa: PLC0415 -- only files need Redis
    from askmill.jobs.openai_client.client import TIMEOUT_S  # noqa: PLC0415 -- as above
    from askmill.jobs.submit.resources import Preparation  # noqa: PLC0415 -- as above

    async with open_store(settings) as store, _client(target, TIMEOUT_S) as client:
        preparation = Preparation(store, "", client, target.api, say)
        return await preparation.prepare(profile, {}, {})


def _greet(profile: Profile, target: Target, *, resumed: bool) -> None:
    assistant = profile.name or profile.model or "the assistant"
    api = "the offline emulator" if target.offline else target.base_url
    thread = "the thread of last time (--new starts another)" if resumed else "a new thread"
    say(f"{assistant} at {api}, {thread}. Type `exit` to end.")


def _read_question() -> str | None:
    """The next question; None for `exit` and at the end of the input."""
    while True:
        try:
            line = input("> " if sys.stdin.isatty() else "").strip()
        except EOFError:
            return None
        if line.lower() in EXIT_WORDS:
            return None
        if line:
            return line


def _write(text: str) -> None:
    click.echo(text, nl=False)

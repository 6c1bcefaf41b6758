"""`chat`: talk to the profile's assistant before paying for a file."""

import asyncio
import re
import sys
from contextlib import ExitStack, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from askmill.config.settings import Settings, load_settings
from askmill.config.text import did_you_mean, one_line
from askmill.jobs.cli.exit_codes import say
from askmill.jobs.cli.run import OFFLINE, resolve_target
from askmill.jobs.local import EmulatorService, ServiceLease
from askmill.jobs.model.api_target import Target
from askmill.jobs.model.errors import ApiUnavailable, UsageError
from askmill.jobs.model.profile import Profile, Resources
from askmill.jobs.options.batch import PROFILE, profile_options
from askmill.jobs.options.groups import RUNNING, TRUST, GroupedCommand, add_options, option
from askmill.jobs.options.request import without_paid_options
from askmill.jobs.submit.find_api import ask_for_api, check_local_server
from askmill.jobs.submit.profile_loader import build_profile, refuse_unsupported, warnings

if TYPE_CHECKING:
    from openai import AsyncOpenAI

    from askmill.jobs.chat.render import Screen
    from askmill.jobs.chat.session import ChatTarget, SavedThread

EXIT_WORDS = frozenset({"exit", "quit", "/exit", "/quit"})
COMMANDS = ("/new", "/show", "/exit")
HELP = "/new starts another thread, /show shows the settings, Ctrl-C stops an answer, /exit ends."
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
    Type /new for another thread, /show for the settings, /exit to end; Ctrl-C stops an answer.
    """
    settings = load_settings()
    target = resolve_target(settings, offline=offline, trust_env_file=trust_env_file)
    options = profile_options(without_paid_options(values, say) if offline else values)
    profile = build_profile(values["profile"], options, settings.model, offline=offline, api=target.api)
    if profile.service_tier == "batch":
        raise UsageError("--tier batch answers within 24 hours: use another tier to chat.")
    with ExitStack() as stack:
        runner = stack.enter_context(asyncio.Runner())
        if target.api is None:
            target = runner.run(ask_for_api(target, say))
        refuse_unsupported(profile, target.api)
        for warning in warnings(profile, target, batch=False):
            say(f"Note: {warning}")
        if offline:
            emulator = stack.enter_context(ServiceLease(EmulatorService(settings.data_dir)))
            target = replace(target, base_url=emulator.wait_ready())
        runner.run(check_local_server(target))
        _chat(settings, target, profile, runner, new=new)
    return 0


def _chat(settings: Settings, target: Target, profile: Profile, runner: asyncio.Runner, *, new: bool) -> None:
    from openai import OpenAIError  # noqa: PLC0415 -- half a second that `--help` does without

    from askmill.jobs.chat.render import Screen  # noqa: PLC0415 -- as above
    from askmill.jobs.chat.session import ChatTarget  # noqa: PLC0415 -- as above
    from askmill.jobs.openai_client.client import describe_error  # noqa: PLC0415 -- as above

    client, screen = _client(target, ANSWER_TIMEOUT_S), Screen(_write)
    resources = runner.run(_resources(settings, target, profile))
    chat_target = ChatTarget(client, target.known_api, profile, resources, settings.data_dir)
    dialogue = _Dialogue(target, chat_target, screen, runner)
    try:
        _greet(profile, target, resumed=dialogue.start(new=new))
        for line in iter(_read_line, None):
            try:
                dialogue.reply_to(line)
            except OpenAIError as error:
                say(f"Error: {describe_error(error, chat_target.client, chat_target.api)}")
            except KeyboardInterrupt:
                if not sys.stdin.isatty():
                    raise
                screen.line("(stopped)")
    except OpenAIError as error:
        raise ApiUnavailable(describe_error(error, chat_target.client, chat_target.api)) from None
    finally:
        runner.run(client.close())


class _Dialogue:
    """The questions and commands of one start of `chat`. Methods raise OpenAIError."""

    def __init__(
        self, target: Target, chat_target: "ChatTarget", screen: "Screen", runner: asyncio.Runner
    ) -> None:
        from askmill.jobs.chat.factory import chat_backend  # noqa: PLC0415 -- loads the SDK
        from askmill.jobs.chat.session import Memory, SavedThread  # noqa: PLC0415 -- as above

        self._target, self._chat_target, self._runner = target, chat_target, runner
        self._backend = chat_backend(chat_target, screen)
        self._memory = Memory(chat_target.folder, target.address, chat_target)
        self._thread = SavedThread()

    def start(self, *, new: bool) -> bool:
        """Find or create the assistant and the thread; returns whether the thread is the last start's."""
        from askmill.jobs.chat.session import start_or_resume  # noqa: PLC0415 -- as above

        self._thread, resumed = self._runner.run(
            start_or_resume(self._chat_target, self._backend, self._memory, new=new)
        )
        return resumed

    def reply_to(self, line: str) -> None:
        """Answer a question or carry out a command."""
        if line == "/new":
            self.start(new=True)
            say("A new thread.")
        elif line == "/show":
            say(_shown(self._chat_target.profile, self._target, self._thread))
        elif re.fullmatch(r"/[a-z]+", line):
            say(f"There is no {line}{did_you_mean(line, COMMANDS) or '.'} {HELP}")
        else:
            self._runner.run(self._backend.ask(self._thread, line))


def _shown(profile: Profile, target: Target, thread: "SavedThread") -> str:
    """What `/show` prints: who answers, where the thread is, and the profile's fields that are set."""
    lines = [f"API: {target.api} at {target.base_url}", f"Thread: {thread.thread_id}"]
    lines += [f"Assistant: {thread.assistant_id}"] if thread.assistant_id else []
    fields = profile.model_dump(exclude_defaults=True)
    lines += [f"{name}: {one_line(str(value), 200)}" for name, value in fields.items()]
    return "\n".join(lines)


def _client(target: Target, timeout_s: float) -> "AsyncOpenAI":
    from askmill.jobs.openai_client.client import make_client  # noqa: PLC0415 -- loads the SDK

    organization, project = target.organization, target.project
    return make_client(target.key, target.base_url, organization, project, timeout_s, target.proxy_environ)


async def _resources(settings: Settings, target: Target, profile: Profile) -> Resources:
    """The profile's files at the API; each is uploaded at most once, as for a batch."""
    if not profile.files or target.api == "chat":
        return Resources()
    from askmill.jobs.local.open_store import open_store  # noqa: PLC0415 -- only files need Redis
    from askmill.jobs.openai_client.client import TIMEOUT_S  # noqa: PLC0415 -- as above
    from askmill.jobs.submit.resources import Preparation  # noqa: PLC0415 -- as above

    async with open_store(settings) as store, _client(target, TIMEOUT_S) as client:
        preparation = Preparation(store, "", client, target.known_api, say)
        return await preparation.prepare(profile, {}, {})


def _greet(profile: Profile, target: Target, *, resumed: bool) -> None:
    assistant = profile.name or profile.model or "the assistant"
    api = "the offline emulator" if target.offline else target.base_url
    thread = "the thread of last time" if resumed else "a new thread"
    say(f"{assistant} at {api}, {thread}. {HELP}")


def _read_line() -> str | None:
    """The next question or command; None for `exit` and at the end of the input.

    On a terminal Ctrl-C drops the line, as in a shell.
    """
    terminal = sys.stdin.isatty()
    if terminal:
        with suppress(ImportError):
            import readline  # noqa: F401, PLC0415 -- lets `input` edit lines and recall earlier ones
    while True:
        try:
            line = input("> " if terminal else "").strip()
        except EOFError:
            return None
        except KeyboardInterrupt:
            if not terminal:
                raise
            say("\n/exit or Ctrl-D ends the chat.")
            continue
        if line.lower() in EXIT_WORDS:
            return None
        if line:
            return line


def _write(text: str) -> None:
    click.echo(text, nl=False)

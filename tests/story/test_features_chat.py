"""`askmill chat`: streamed answers and tool calls, one thread over several starts. On both APIs."""

import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from askmill.jobs.chat.factory import chat_backend
from askmill.jobs.chat.render import Screen
from askmill.jobs.chat.session import ChatTarget, SavedThread
from askmill.jobs.functions.registry import describe
from askmill.jobs.model.profile import Profile, Resources
from askmill.jobs.openai_client.client import make_client
from tests.helpers.command_line import terminal
from tests.helpers.requests import StackUser
from tests.stack import Stack
from tests.support import wait_until

TUTOR = str(Path(__file__).parents[2] / "examples" / "tutor.toml")
THREADS = {"assistants": "POST /threads", "responses": "POST /conversations"}


@pytest.fixture(scope="module", params=["assistants", "responses"])
def user(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StackUser]:
    """One emulator an API; chat needs no worker."""
    folder = tmp_path_factory.mktemp("stack")
    with Stack(folder, api=request.param) as stack:
        yield StackUser.of(stack, folder / "work")


def _chat(user: StackUser, *lines: str, options: tuple[str, ...] = ("--profile", TUTOR)) -> str:
    """The output of `askmill chat` when these lines are typed."""
    done = user.cli.askmill("chat", *options, stdin="".join(f"{line}\n" for line in lines))
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


def test_the_tutor_answers_and_shows_its_code_once(user: StackUser) -> None:
    """The quickstart's question: the code and its log first, then the answer; lines after `exit` are not sent."""
    shown = _chat(
        user, "I need to solve the equation `3x + 11 = 14`. Can you help me?", "exit", "What is 9 + 9?"
    )

    assert shown.count("code interpreter") == 1
    assert shown.index("solve(") < shown.index("→ [1]") < shown.index("So x = 1.")
    assert "18" not in shown


def test_assistant_and_thread_are_kept_between_starts(user: StackUser) -> None:
    """The second start continues the same thread, `--new` creates another; the assistant is created once."""
    _chat(user, "What is 1 + 1?", "exit")
    threads, assistants = (
        user.requests(endpoint) for endpoint in (THREADS[user.stack.api], "POST /assistants")
    )

    _chat(user, "What is 2 + 2?")

    assert user.requests(THREADS[user.stack.api]) == threads
    _chat(user, "What is 3 + 3?", options=("--profile", TUTOR, "--new"))
    assert user.requests(THREADS[user.stack.api]) == threads + 1
    assert user.requests("POST /assistants") == assistants


def test_functions_are_called_and_shown(user: StackUser) -> None:
    """The model's call, the function's result, and the final answer; an exception becomes a message to the model."""
    user.cli.write(
        "weather.py",
        "def temperature(city: str) -> str:",
        '    """The temperature in a city."""',
        '    if city == "Nowhere": raise LookupError("no such city")',
        '    return f"57 degrees in {city}"',
    )
    call = 'How warm is it in CITY? [emulate: requires_action(temperature, {"city": "CITY"}), completed]'

    shown = _chat(
        user,
        call.replace("CITY", "Oslo"),
        call.replace("CITY", "Nowhere"),
        options=("--functions", "weather.py"),
    )

    assert 'temperature {"city": "Oslo"}' in shown
    assert "→ 57 degrees in Oslo" in shown
    assert "LookupError: no such city" in shown
    assert shown.count("The functions returned:") == 2


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")
async def test_a_function_that_never_returns_blocks_nothing(
    user: StackUser, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped at its time limit; the model gets an error, and the program's exit does not wait for it."""
    monkeypatch.chdir(user.cli.folder)
    user.cli.write(
        "endless.py",
        "import threading",
        "def wait_for_ever() -> str:",
        '    """Waits."""',
        "    threading.Event().wait()",
        "    return 'never'",
    )
    profile, shown = Profile(model="gpt-5-mini", functions=describe("endless.py")), list[str]()
    async with make_client("offline", user.stack.base_url) as api_client:
        target = ChatTarget(api_client, user.stack.api, profile, Resources(), function_limit_s=0.3)
        backend = chat_backend(target, Screen(shown.append))
        thread = await backend.ensure(SavedThread())

        await backend.ask(thread, "Wait. [emulate: requires_action(wait_for_ever, {}), completed]")

    assert "→ Error: wait_for_ever took longer than 0.3 s." in "".join(shown)
    assert "The functions returned:" in "".join(shown)
    assert all(thread.daemon for thread in threading.enumerate() if thread.name == "askmill-function")


def test_a_cited_file_is_named(user: StackUser) -> None:
    """The API's marker is replaced: `[1]` in the answer, the file's name below."""
    user.cli.write("gate.txt", "The gate is opened by Irina.")

    shown = _chat(user, "Who opens the gate?", options=("--tool", "file_search", "--file", "gate.txt"))

    assert "Irina" in shown
    assert "【" not in shown
    assert "[1] gate.txt" in shown


def test_an_interrupted_answer_does_not_block_the_next_question(user: StackUser) -> None:
    """Ctrl-C during an answer: the next start waits until its run ends (or cancels it), says so, and answers."""
    _chat(user, "What is 1 + 1?", options=("--new",))
    before = user.stack.stats()["runs_created"]
    chat = user.cli.start("chat")
    assert chat.stdin is not None
    duration_s = 300 if user.stack.api == "assistants" else 12  # Assistants cancels the run, Responses waits
    chat.stdin.write(f"What is 2 + 2? [emulate: completed after={duration_s}]\n")
    chat.stdin.flush()
    wait_until(lambda: user.stack.stats()["runs_created"] > before, "the run exists", 30)
    chat.send_signal(signal.SIGINT)
    chat.communicate(timeout=30)

    shown = _chat(user, "What is 3 + 4?", options=())

    assert chat.returncode == 130
    assert "an earlier answer still holds this thread" in shown
    assert "3 + 4 = 7." in shown


def test_a_refused_question_is_reported_and_the_chat_continues(user: StackUser) -> None:
    """A 400 is shown with the API's message and without the advice to try again later."""
    done = user.cli.askmill("chat", "--new", stdin="Hm [emulate: nonsense]\nWhat is 7 + 8?\n")

    assert " refuses this (POST /v1/" in done.stderr
    assert ": 400: " in done.stderr
    assert "trouble" not in done.stderr
    assert "7 + 8 = 15." in done.stdout


def test_generated_files_are_named(user: StackUser) -> None:
    """They are not listed as sources; a batch would keep them."""
    shown = _chat(user, "What is 1 + 2? [emulate: completed(file)]", options=("--new",))

    assert "(made answer.csv, which `run` would keep)" in shown
    assert "[1]" not in shown


def test_a_failed_run_is_reported_and_the_chat_continues(user: StackUser) -> None:
    """The API's message is shown, and the next question is answered."""
    shown = _chat(user, "Hm [emulate: failed(server_error)]", "What is 7 + 7?")

    assert "server_error" in shown
    assert "14" in shown


def test_a_run_that_fails_for_lack_of_credit_comes_with_advice(user: StackUser) -> None:
    """Recognized by the same message texts that pause a batch, whatever the error code."""
    quota = "You exceeded your current quota, please check your plan and billing details."
    shown = _chat(user, f'Hm [emulate: failed(rate_limit_exceeded, "{quota}")]')

    assert quota in shown
    assert "Add credit or raise the spend limit" in shown


def test_with_nothing_configured_the_emulator_answers(tmp_path: Path) -> None:
    """With `--offline`, as `run`; the next start continues the thread."""
    user = terminal(tmp_path, offline=True)

    first = user.askmill("chat", stdin="What is 12 * (3 + 4)?\n")
    second = user.askmill("chat", stdin="exit\n")

    assert first.returncode == second.returncode == 0, first.stderr
    assert "84" in first.stdout
    assert "a new thread" in first.stderr
    assert "last time" in second.stderr

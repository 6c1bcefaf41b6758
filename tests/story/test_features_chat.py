"""`askmill chat`: answers and tool calls as they come, one thread over several starts. On both APIs."""

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
def asker(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StackUser]:
    """One emulator an API; chat needs no worker."""
    folder = tmp_path_factory.mktemp("stack")
    with Stack(folder, api=request.param) as stack:
        yield StackUser.of(stack, folder / "work")


def _talk(asker: StackUser, *lines: str, options: tuple[str, ...] = ("--profile", TUTOR)) -> str:
    """What the screen shows when these lines are typed."""
    done = asker.user.askmill("chat", *options, given="".join(f"{line}\n" for line in lines))
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


def test_the_tutor_answers_and_shows_its_code_once(asker: StackUser) -> None:
    """The quickstart's question: the code and its log first, then the answer; what follows `exit` is not asked."""
    shown = _talk(
        asker, "I need to solve the equation `3x + 11 = 14`. Can you help me?", "exit", "What is 9 + 9?"
    )

    assert shown.count("code interpreter") == 1
    assert shown.index("solve(") < shown.index("→ [1]") < shown.index("So x = 1.")
    assert "18" not in shown


def test_assistant_and_thread_are_kept_between_starts(asker: StackUser) -> None:
    """The second start goes on with the same thread, `--new` with another; the assistant is made once."""
    _talk(asker, "What is 1 + 1?", "exit")
    threads, assistants = (
        asker.requests(endpoint) for endpoint in (THREADS[asker.stack.api], "POST /assistants")
    )

    _talk(asker, "What is 2 + 2?")

    assert asker.requests(THREADS[asker.stack.api]) == threads
    _talk(asker, "What is 3 + 3?", options=("--profile", TUTOR, "--new"))
    assert asker.requests(THREADS[asker.stack.api]) == threads + 1
    assert asker.requests("POST /assistants") == assistants


def test_functions_are_called_and_shown(asker: StackUser) -> None:
    """The model's call, what the function gave back, and the answer that it led to; a fault becomes words."""
    asker.user.write(
        "weather.py",
        "def temperature(city: str) -> str:",
        '    """The temperature in a city."""',
        '    if city == "Nowhere": raise LookupError("no such city")',
        '    return f"57 degrees in {city}"',
    )
    call = 'How warm is it in CITY? [emulate: requires_action(temperature, {"city": "CITY"}), completed]'

    shown = _talk(
        asker,
        call.replace("CITY", "Oslo"),
        call.replace("CITY", "Nowhere"),
        options=("--functions", "weather.py"),
    )

    assert 'temperature {"city": "Oslo"}' in shown
    assert "→ 57 degrees in Oslo" in shown
    assert "LookupError: no such city" in shown
    assert shown.count("The functions returned:") == 2


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")
async def test_a_function_that_never_returns_holds_up_nothing(
    asker: StackUser, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut off after its time; the model is told, and the end of the program does not wait for it."""
    monkeypatch.chdir(asker.user.folder)
    asker.user.write(
        "endless.py",
        "import threading",
        "def wait_for_ever() -> str:",
        '    """Waits."""',
        "    threading.Event().wait()",
        "    return 'never'",
    )
    profile, shown = Profile(model="gpt-5-mini", functions=describe("endless.py")), list[str]()
    async with make_client("offline", asker.stack.base_url) as api_client:
        partner = ChatTarget(api_client, asker.stack.api, profile, Resources(), function_limit_s=0.3)
        talk = chat_backend(partner, Screen(shown.append))
        kept = await talk.make(SavedThread())

        await talk.ask(kept, "Wait. [emulate: requires_action(wait_for_ever, {}), completed]")

    assert "→ Error: wait_for_ever took longer than 0.3 s." in "".join(shown)
    assert "The functions returned:" in "".join(shown)
    assert all(thread.daemon for thread in threading.enumerate() if thread.name == "askmill-function")


def test_a_cited_file_is_named(asker: StackUser) -> None:
    """No unreadable marker: `[1]` in the answer, the file's name below."""
    asker.user.write("gate.txt", "The gate is opened by Irina.")

    shown = _talk(asker, "Who opens the gate?", options=("--tool", "file_search", "--file", "gate.txt"))

    assert "Irina" in shown
    assert "【" not in shown
    assert "[1] gate.txt" in shown


def test_an_interrupted_answer_does_not_lock_the_next_question_out(asker: StackUser) -> None:
    """Ctrl-C in the middle of an answer: the next start waits for its end (or ends it), says so, and answers."""
    _talk(asker, "What is 1 + 1?", options=("--new",))
    before = asker.stack.stats()["runs_created"]
    chat = asker.user.start("chat")
    assert chat.stdin is not None
    lasting_s = 300 if asker.stack.api == "assistants" else 12  # there the run is ended, here it is awaited
    chat.stdin.write(f"What is 2 + 2? [emulate: completed after={lasting_s}]\n")
    chat.stdin.flush()
    wait_until(lambda: asker.stack.stats()["runs_created"] > before, "the answer has begun", 30)
    chat.send_signal(signal.SIGINT)
    chat.communicate(timeout=30)

    shown = _talk(asker, "What is 3 + 4?", options=())

    assert chat.returncode == 130
    assert "an earlier answer still holds this thread" in shown
    assert "3 + 4 = 7." in shown


def test_what_the_api_refuses_is_told_and_the_talk_goes_on(asker: StackUser) -> None:
    """A question that it cannot take: its own words, no advice to try again later."""
    done = asker.user.askmill("chat", "--new", given="Hm [emulate: nonsense]\nWhat is 7 + 8?\n")

    assert " refuses this (400: " in done.stderr
    assert "trouble" not in done.stderr
    assert "7 + 8 = 15." in done.stdout


def test_files_that_an_answer_made_are_named(asker: StackUser) -> None:
    """Not as a source: they were made, and a batch would keep them."""
    shown = _talk(asker, "What is 1 + 2? [emulate: completed(file)]", options=("--new",))

    assert "(made answer.csv, which `run` would keep)" in shown
    assert "[1]" not in shown


def test_a_failed_run_is_told_and_the_talk_goes_on(asker: StackUser) -> None:
    """The API's words, then the next question is answered all the same."""
    shown = _talk(asker, "Hm [emulate: failed(server_error)]", "What is 7 + 7?")

    assert "server_error" in shown
    assert "14" in shown


def test_money_that_ends_a_run_is_told_with_what_to_do(asker: StackUser) -> None:
    """The same words as a batch's pause go by, whatever the code."""
    quota = "You exceeded your current quota, please check your plan and billing details."
    shown = _talk(asker, f'Hm [emulate: failed(rate_limit_exceeded, "{quota}")]')

    assert quota in shown
    assert "Add credit or raise the spend limit" in shown


def test_with_nothing_configured_the_emulator_answers(tmp_path: Path) -> None:
    """With `--offline`, as `run`; its thread is there the next time."""
    user = terminal(tmp_path, offline=True)

    first = user.askmill("chat", given="What is 12 * (3 + 4)?\n")
    second = user.askmill("chat", given="exit\n")

    assert first.returncode == second.returncode == 0, first.stderr
    assert "84" in first.stdout
    assert "a new thread" in first.stderr
    assert "last time" in second.stderr

"""Conversations: rows with the same value share a thread, in order, whatever happens to a turn. On both APIs."""

from collections.abc import Iterator

import pytest

from tests.helpers.requests import Row, StackUser
from tests.stack import QUICK, Stack
from tests.support import wait_until

HEADER = ("chat", "question")


@pytest.fixture(scope="module", params=["assistants", "responses"])
def user(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StackUser]:
    """One stack an API, with a worker."""
    folder = tmp_path_factory.mktemp("stack")
    with Stack(folder, api=request.param) as stack:
        stack.worker(times=QUICK)
        yield StackUser.of(stack, folder / "work")


def _user_texts(messages: list[tuple[str, str]]) -> list[str]:
    return [text for role, text in messages if role == "user"]


def _statuses(rows: list[Row]) -> list[tuple[str, str | None]]:
    return [(row["status"], row["error"]) for row in rows]


def test_turns_are_on_one_thread_in_file_order(user: StackUser) -> None:
    """Rows with the same value share a thread and are asked in order; each value, and each blank, has its own."""
    file = user.table(
        "chats.csv",
        HEADER,
        ("ann", "What is 1 + 1?"),
        ("bob", "What is 10 + 1?"),
        ("ann", "What is 2 + 2?"),
        ("", "What is 5 + 5?"),
        ("bob", "What is 20 + 2?"),
        ("ann", "What is 3 + 3?"),
        ("", "What is 6 + 6?"),
    )

    rows = user.rows(file, "--conversation-column", "chat")

    threads = [row["thread_id"] for row in rows]
    assert {row["status"] for row in rows} == {"completed"}
    assert threads[0] == threads[2] == threads[5]
    assert threads[1] == threads[4]
    assert len(set(threads)) == 4
    messages = user.messages(threads[0])
    assert _user_texts(messages) == ["What is 1 + 1?", "What is 2 + 2?", "What is 3 + 3?"]
    assert [role for role, _ in messages] == ["user", "assistant"] * 3
    assert [row["answer"].count("=") for row in rows] == [1] * 7, "each answer is that of its own turn"


def test_different_conversations_run_in_parallel(user: StackUser) -> None:
    """Six conversations of two half-second turns run at the same time, but never two turns of one."""
    turns = [
        (f"c{n}", f"What is {n} + {turn}? [emulate: completed after=0.5]")
        for turn in (1, 2)
        for n in range(6)
    ]
    file = user.table("parallel.csv", HEADER, *turns)

    user.rows(file, "--conversation-column", "chat")

    assert 2 <= user.stack.stats()["runs_active_max"] <= 6


def test_a_failed_turn_fails_the_later_ones_and_retry_repeats_both(user: StackUser) -> None:
    """Later turns fail with `previous_turn` and without a run; `retry` repeats them and the failed turn, in order."""
    file = user.table(
        "broken.csv",
        HEADER,
        ("ann", "What is 1 + 1?"),
        ("ann", "What is 2 + 2? [emulate: failed(invalid_prompt), completed]"),
        ("ann", "What is 3 + 3?"),
        ("bob", "What is 9 + 9?"),
    )

    rows = user.rows(file, "--conversation-column", "chat", code=1)

    assert _statuses(rows)[0] == ("completed", None)
    assert rows[1]["error"].startswith("invalid_prompt")
    assert _statuses(rows)[2] == ("failed", "previous_turn")
    assert rows[2]["attempts"] == 0
    assert _statuses(rows)[3] == ("completed", None)

    batch = user.cli.batches()[0]
    assert user.cli.askmill("retry", batch).returncode == 0
    collected = user.cli.askmill("collect", batch, "--wait", "-o", "again.jsonl")
    assert collected.returncode == 0, collected.stderr

    again = user.results("again.jsonl")
    assert {row["status"] for row in again} == {"completed"}
    assert len({row["thread_id"] for row in again[:3]}) == 1
    questions = _user_texts(user.messages(again[0]["thread_id"]))
    assert [text[:14] for text in questions] == ["What is 1 + 1?", "What is 2 + 2?", "What is 3 + 3?"]
    assert [row["attempts"] for row in again] == [1, 2, 1, 1]


@pytest.mark.parametrize("turn", [1, 2])
def test_a_new_attempt_keeps_the_opening_messages_and_the_turns_before(user: StackUser, turn: int) -> None:
    """Only the failed run's partial message is deleted: the profile's opening messages and earlier turns stay."""
    fails_first = "[emulate: failed(server_error, partial), completed]"
    user.cli.write(
        "opening.toml",
        'tools = ["code_interpreter"]',
        "[[messages]]",
        'role = "user"',
        'content = "We work in base ten."',
        "[[messages]]",
        'role = "assistant"',
        'content = "Understood."',
    )
    questions = ["What is 1 + 1?", "What is 2 + 2?"]
    questions[turn - 1] += f" {fails_first}"
    file = user.table(f"fails-{turn}.csv", HEADER, *(("ann", question) for question in questions))

    rows = user.rows(file, "--conversation-column", "chat", "--profile", "opening.toml")

    assert [row["attempts"] for row in rows] == ([2, 1] if turn == 1 else [1, 2])
    messages = user.messages(rows[1]["thread_id"])
    assert messages[:2] == [("user", "We work in base ten."), ("assistant", "Understood.")]
    assert [role for role, _ in messages[2:]] == ["user", "assistant"] * 2
    assert _user_texts(messages[2:]) == questions
    assert rows[0]["thread_id"] == rows[1]["thread_id"]


def test_a_killed_worker_does_not_change_the_order_of_turns(user: StackUser) -> None:
    """kill -9 during a turn: another worker polls the same run to its end, then the later turns run."""
    slow = " [emulate: completed after=8]"
    questions = [f"What is {n} + {n}?" + (slow if n == 2 else "") for n in (1, 2, 3)]
    file = user.table("killed.csv", HEADER, *(("ann", question) for question in questions))
    command = user.cli.start("run", file, "--conversation-column", "chat", "-o", "killed.jsonl")

    def second_turn() -> bool:
        status = user.cli.askmill("status", "--json").stdout
        return '"name":"killed.csv"' in status and '"runs":2' in status

    wait_until(second_turn, "the second turn's run exists", timeout_s=30)
    user.stack.workers[0].kill()
    user.stack.worker(times=QUICK)
    _, stderr = command.communicate(timeout=60)

    assert command.returncode == 0, stderr
    rows = user.results("killed.jsonl")
    assert [row["attempts"] for row in rows] == [1, 1, 1]
    assert _user_texts(user.messages(rows[0]["thread_id"])) == questions

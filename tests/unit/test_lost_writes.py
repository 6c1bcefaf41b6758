"""What a worker writes again when Redis has gone back in time: the complete plan, from what it has written."""

import tracemalloc
from typing import Any

import orjson
import pytest

from askmill.jobs.store import lost_writes
from askmill.jobs.store.codec import pack
from askmill.jobs.store.lost_writes import KEPT_S, Call, Redo, WriteLog

HELD = [1, 0, 1, 1, 1, 0]
"""The reply to a save whose claim holds; the last number: its run was counted."""
RUN_COUNTED = [*HELD[:5], 1]
NOTHING = Redo([], [])


def claim(row: int = 7, fence: str = "fa", batch: str = "b") -> Call:
    return "claim", (batch, row, "w", fence)


def claimed(reserved: bytes = b"5", spent: bytes = b"6", counted: bytes = b"1") -> list[Any]:
    """The reply to a claim of a row that had a run."""
    update = [1000, b"running", b"{}", b"", b"2", b"3", b"1", counted, reserved, spent]
    return [b"", b"state 0", b"turn", 4, b"block", b"", *update]


def save(
    number: int, flags: tuple[Any, Any] = ("", ""), *counters: Any, row: int = 7, fence: str = "fa"
) -> Call:
    """A save of `state {number}`. `flags`: run_created, run_in_flight."""
    values = (f"hash {number}", f"state {number}".encode(), *flags, "", "", "")
    return "save", ("b", row, fence, *values, *counters)


def finish(row: int = 7, fence: str = "fa", result: bytes = b"result") -> Call:
    return "finish", ("b", row, "w", fence, "c", result, b"", 0)


def row_of(redo: Redo, at: int = 0) -> tuple[dict[str, Any], bytes]:
    """The arguments of one row: its entry and its state."""
    entry, state = redo.rows[at]
    return orjson.loads(entry), state


def log_of(*writes: tuple[int, Call, Any]) -> WriteLog:
    """A log of these writes: number of the pipeline, call, reply."""
    log = WriteLog()
    for number, call, reply in writes:
        log.record(number, 10.0, call, reply)
    return log


CLAIMED_ENTRY = {
    "request": "fa1",
    "batch": "b",
    "row": 7,
    "fence": "fa",
    "generation": 2,
    "deliveries": 3,
    "live": {
        "crashes": 4,
        "run_in_flight": "1",
        "run_counted": "1",
        "reserved_nano": 5,
        "spent_nano": 6,
    },
    "runs": 0,
    "writes": 1,
    "counters": {},
}


def test_a_lost_claim_is_claimed_again_as_its_reply_said() -> None:
    """With the fields of the row's hash, and the state that the last worker had left."""
    log = log_of((1, claim(), claimed()))
    steps = log.plan([range(1, 2)])
    assert [len(step.rows) for step in steps] == [1, 0]
    assert row_of(steps[0]) == (CLAIMED_ENTRY, b"state 0")
    assert log.plan([range(2, 9)]) == [NOTHING, NOTHING]
    assert log.holds("b", 7)
    assert not log.holds("b", 8)
    assert not log.holds("c", 7)


def test_amounts_that_a_claim_does_not_have_are_zero() -> None:
    """A row without reserved or spent money."""
    entry, _ = row_of(log_of((1, claim(), claimed(b"", b""))).plan([range(1, 2)])[0])
    assert (entry["live"]["reserved_nano"], entry["live"]["spent_nano"]) == (0, 0)


@pytest.mark.parametrize("reply", [[b"paused"], [b"gone"]])
def test_a_refused_claim_holds_nothing(reply: list[bytes]) -> None:
    """Nothing to redo."""
    log = log_of((1, claim(), reply))
    assert not log.holds("b", 7)
    assert log.plan([range(1, 2)]) == [NOTHING, NOTHING]


def test_lost_saves_are_saved_in_one_step_with_all_that_they_counted() -> None:
    """The last state, the sum of the lost counters and runs; those of earlier pipelines are there."""
    log = log_of(
        (1, claim(), claimed(counted=b"0")),
        (2, save(1, ("", "1"), "requests", 1, "prompt", 7), HELD),
        (3, save(2, (1, "1"), "requests", 2), RUN_COUNTED),
        (4, save(3), HELD),
    )
    entry, state = row_of(log.plan([range(2, 4)])[0])
    assert state == b"state 3"
    assert entry == {
        **CLAIMED_ENTRY,
        "request": "fa3",
        "live": {**CLAIMED_ENTRY["live"], "run_in_flight": "1", "run_counted": "1", "last_save": "hash 3"},
        "runs": 1,
        "writes": 2,
        "counters": {"requests": 3, "prompt": 7},
    }
    assert row_of(log.plan([range(2, 3), range(4, 5)])[0])[0]["request"] == "fa4"
    assert row_of(log.plan([range(4, 5)])[0])[0]["counters"] == {}


def test_a_save_keeps_the_fields_that_it_does_not_set() -> None:
    """Empty arguments leave the stored fields; others replace them."""
    values = ("hash", b"state", "", "", 1, 50, 60)
    log = log_of((1, claim(), claimed()), (2, ("save", ("b", 7, "fa", *values)), HELD))
    live = row_of(log.plan([range(2, 3)])[0])[0]["live"]
    amounts = {"crash_mark": 1, "reserved_nano": 50, "spent_nano": 60}
    assert live == {**CLAIMED_ENTRY["live"], "last_save": "hash", **amounts}


def test_a_repeated_save_counts_once() -> None:
    """The script knew its content's hash."""
    log = log_of((1, claim(), claimed()), (2, save(1), HELD), (3, save(1), HELD))
    assert row_of(log.plan([range(1, 9)])[0])[0]["writes"] == 2


@pytest.mark.parametrize(
    "reply",
    [[0, 0, 1, 1, 1], [1, 0, 0, 1, 1], [1, 0, 1, 0, 1]],
    ids=["claim lost", "not affordable", "batch stopped"],
)
def test_a_refused_save_is_not_written_again(reply: list[int]) -> None:
    """A save without its claim ends the row here; the other two keep it."""
    log = log_of((1, claim(), claimed()), (2, save(1), reply))
    assert log.holds("b", 7) is bool(reply[0])
    assert log.plan([range(2, 3)]) == [NOTHING, NOTHING]


def test_a_save_of_an_older_server_without_the_last_number_counts_no_run() -> None:
    """The reply to a repeated call has five numbers."""
    log = log_of((1, claim(), claimed()), (2, save(1, (1, "1")), HELD[:5]))
    assert row_of(log.plan([range(2, 3)])[0])[0]["runs"] == 0


@pytest.mark.parametrize("call", [save(1, fence="fb"), save(1, row=8), finish(fence="fb")])
def test_another_claim_writes_nothing_for_this_one(call: Call) -> None:
    """The fence and the row decide."""
    log = log_of((1, claim(), claimed()), (2, call, HELD))
    assert log.holds("b", 7)
    assert log.plan([range(2, 3)]) == [NOTHING, NOTHING]


def test_a_run_that_was_counted_before_the_loss_is_not_counted_again() -> None:
    """Its save is repeated after the loss and counted anew, so the lost one is taken back."""
    log = log_of(
        (1, claim(), claimed(counted=b"0")),
        (2, save(1, (1, "1")), RUN_COUNTED),
        (3, save(2, (1, "1")), RUN_COUNTED),
    )
    assert row_of(log.plan([range(1, 4)])[0])[0]["runs"] == 1
    assert row_of(log.plan([range(2, 3)])[0])[0]["runs"] == 0
    assert row_of(log.plan([range(3, 4)])[0])[0]["runs"] == 1


def test_a_run_is_taken_back_with_the_last_write_before_it_was_counted_again() -> None:
    """Which was lost as well: losses have no gaps."""
    log = log_of(
        (1, claim(), claimed(counted=b"0")),
        (2, save(1, (1, "1")), RUN_COUNTED),
        (3, save(2), HELD),
        (4, save(3, (1, "1")), RUN_COUNTED),
    )
    assert row_of(log.plan([range(2, 4)])[0])[0]["runs"] == 0
    assert row_of(log.plan([range(2, 3)])[0])[0]["runs"] == 1


def test_lost_ends_are_redone_after_their_rows_and_in_their_order() -> None:
    """The file before the end; a row in hand comes last."""
    file = "store_file", ("b", 7, "fa", 0, b"content", 100)
    log = log_of(
        (1, claim(), claimed()),
        (1, claim(8, "fc"), claimed()),
        (1, claim(9, "fd"), claimed()),
        (4, finish(8, "fc"), 1),
        (2, file, 1),
        (3, finish(), 1),
    )
    ended, in_hand, rest = log.plan([range(1, 5)])
    assert [row_of(ended, at)[0]["row"] for at in range(2)] == [8, 7]
    assert ended.calls == [file, finish(), finish(8, "fc")]
    assert (row_of(in_hand)[0]["row"], in_hand.calls, rest) == (9, [], NOTHING)
    assert row_of(ended, 1)[0]["writes"] == 3
    assert row_of(ended, 1)[0]["request"] == "fa3"
    part = log.plan([range(3, 4)])[0]
    assert ([row_of(part)[0]["row"]], part.calls, row_of(part)[0]["writes"]) == ([7], [finish()], 1)
    assert log.plan([range(2, 3)])[0].calls == [file]
    together = log_of((1, claim(), claimed()), (2, file, 1), (2, finish(), 1))
    assert together.plan([range(2, 3)])[0].calls == [file, finish()]
    assert [log.holds("b", row) for row in (7, 8, 9)] == [False, False, True]


def test_a_refused_file_is_not_stored_again() -> None:
    """The batch's files are too large; the row goes on."""
    log = log_of((1, claim(), claimed()), (2, ("store_file", ("b", 7, "fa", 0, b"content", 1)), 0))
    assert log.holds("b", 7)
    assert log.plan([range(2, 3)]) == [NOTHING, NOTHING]


@pytest.mark.parametrize("call", [finish(), ("release_row", ("b", 7, "w", "fa", b"", 0, "", ""))])
def test_an_end_refused_for_its_claim_forgets_the_row(call: Call) -> None:
    """Another worker holds it. With another fence it says nothing about this claim."""
    log = log_of((1, claim(), claimed()), (2, call, 0))
    assert not log.holds("b", 7)
    other = log_of((1, claim(fence="fb"), claimed()), (2, call, 0))
    assert other.holds("b", 7)


def test_a_row_that_ended_several_times_is_redone_step_by_step() -> None:
    """Released and claimed again: each claim before the next."""
    release = "release_row", ("b", 7, "w", "fa", b"", 0, "", "")
    log = log_of(
        (1, claim(), claimed()),
        (2, release, 1),
        (3, claim(fence="fb"), claimed()),
        (4, finish(fence="fb"), 1),
        (4, claim(8, "fc"), claimed()),
        (5, finish(8, "fc"), 1),
    )
    first, second, in_hand, _ = log.plan([range(1, 9)])
    assert [orjson.loads(entry)["fence"] for entry, _ in first.rows] == ["fa", "fc"]
    assert [orjson.loads(entry)["fence"] for entry, _ in second.rows] == ["fb"]
    log.record(6, 10.0, claim(fence="fd"), claimed())
    log.record(7, 10.0, finish(fence="fd"), 1)
    assert [len(step.rows) for step in log.plan([range(1, 9)])] == [2, 1, 1, 0, 0]
    assert (first.calls, second.calls, in_hand) == ([release, finish(8, "fc")], [finish(fence="fb")], NOTHING)


@pytest.mark.parametrize("name", ["set_resources", "resource_store", "incr_counters"])
def test_other_scripts_are_sent_again_as_they_were(name: str) -> None:
    """If they changed something and were lost."""
    call: Call = name, ("b", "x")
    log = log_of((1, call, 1), (2, call, 0), (3, ("heartbeat", ("w",)), 1))
    assert log.plan([range(1, 4)]) == [NOTHING, Redo([], [call])]
    assert log.plan([range(2, 4)]) == [NOTHING, NOTHING]


def test_what_is_redone_has_a_new_number() -> None:
    """A second loss of the same numbers redoes nothing; a loss of the new number redoes it again."""
    repeated: Call = "set_resources", ("b", "x")
    log = log_of(
        (1, claim(), claimed()),
        (2, claim(8, "fc"), claimed()),
        (3, finish(8, "fc"), 1),
        (3, repeated, 1),
        (4, repeated, 1),
        (4, claim(9, "fd"), claimed()),
        (4, ("store_file", ("b", 7, "fa", 0, b"", 1)), 1),
    )
    log.redone([range(1, 4)], 9)
    assert log.plan([range(1, 4)]) == [NOTHING, NOTHING]
    ended, in_hand, rest = log.plan([range(9, 10)])
    assert (ended.calls, rest.calls) == ([finish(8, "fc")], [repeated])
    assert (len(in_hand.rows), row_of(in_hand)[0]["writes"], in_hand.calls) == (1, 1, [])
    assert log.plan([range(4, 5)])[0].calls == [("store_file", ("b", 7, "fa", 0, b"", 1))]


def heartbeat(log: WriteLog, now_s: float, *, alive: bool = True, deleted: tuple[str, ...] = ()) -> None:
    log.follow_heartbeat("w", now_s, alive=alive, deleted_batches=deleted)


def test_ended_rows_and_other_scripts_are_forgotten_after_half_a_minute() -> None:
    """Rows in hand are kept."""
    log = log_of(
        (1, claim(), claimed()),
        (1, claim(8, "fc"), claimed()),
        (1, finish(), 1),
        (1, ("set_resources", ("b", "x")), 1),
    )
    heartbeat(log, 10.0 + KEPT_S)
    assert [(len(step.rows), len(step.calls)) for step in log.plan([range(1, 2)])] == [(1, 1), (1, 0), (0, 1)]
    heartbeat(log, 10.5 + KEPT_S)
    assert [(len(step.rows), len(step.calls)) for step in log.plan([range(1, 2)])] == [(1, 0), (0, 0)]
    assert log.worker == "w"


def test_ended_rows_are_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest are forgotten first; state, files and results count."""
    size = len(b"state 0") + len(b"result")
    monkeypatch.setattr(lost_writes, "_OBJECTS_BYTES", 5)
    monkeypatch.setattr(lost_writes, "KEPT_BYTES", 2 * (5 + size))
    log = WriteLog()
    for row in (1, 2, 3):
        log.record(row, 10.0, claim(row), claimed())
        log.record(row, 10.0, finish(row), 1)
    heartbeat(log, 11.0)
    assert [orjson.loads(entry)["row"] for entry, _ in log.plan([range(1, 9)])[0].rows] == [2, 3]
    log.record(4, 10.0, claim(4), claimed())
    log.record(4, 10.0, finish(4, result=b"result!"), 1)
    heartbeat(log, 11.0)
    assert [orjson.loads(entry)["row"] for entry, _ in log.plan([range(1, 9)])[0].rows] == [4]


def test_the_bound_is_that_of_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Objects count as well, and results and turns of conversations take no more than their content.

    orjson's and zstandard's bytes take up to twelve times theirs.
    """
    monkeypatch.setattr(lost_writes, "KEPT_BYTES", 500_000)
    tracemalloc.start()
    log = WriteLog()
    before = tracemalloc.get_traced_memory()[0]
    for row in range(300):
        fence = f"fence {row}"
        log.record(row, 10.0, claim(row, fence), claimed())
        for number in range(3):
            log.record(row, 10.0, save(number, (1, "1"), "requests", row, row=row, fence=fence), RUN_COUNTED)
        result, turn = pack(["answer " * 500]), orjson.dumps({"messages": ["question " * 200]})
        log.record(row, 10.0, ("finish", ("b", row, "w", fence, "c", result, turn, 0)), 1)
    heartbeat(log, 11.0)
    kept = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert 250_000 < kept < 500_000


def test_rows_of_purged_batches_and_of_a_dead_worker_are_forgotten() -> None:
    """Other workers hold the latter."""
    log = log_of((1, claim(), claimed()), (1, claim(batch="c"), claimed()))
    assert log.worker == ""
    heartbeat(log, 11.0)
    heartbeat(log, 11.0, deleted=("c", "d"))
    assert (log.holds("b", 7), log.holds("c", 7)) == (True, False)
    heartbeat(log, 11.0, alive=False)
    assert not log.holds("b", 7)

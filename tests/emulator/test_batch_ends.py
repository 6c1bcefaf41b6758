"""Ends of batches: the limit of enqueued tokens, expiry, cancels, lines lost and repeated, files that expire."""

import asyncio
from collections import Counter

import pytest
from openai import (
    BadRequestError,
    NotFoundError,
)

from tests.emulator.batch_support import (
    create,
    ledger,
    line_of,
    lines_of,
    reached,
    read,
    run_batch,
    scene,
    upload,
)
from tests.emulator.emulator_support import Emulator

STUCK = "[emulate: stuck] 1 + 1"


# --- limits and ends ---


def test_the_enqueued_tokens_of_a_model_are_limited(emulator: Emulator) -> None:
    """Over the limit a batch is accepted and fails with OpenAI's words; another model has its own queue; the
    tokens of an ended batch are free again, or `release_s` later."""

    async def go() -> None:
        async with scene(emulator, "[batches]\nenqueued_limit = 2000000") as client:
            first = await create(client, [line_of("queue-1", STUCK)])
            await reached(client, first.id, "in_progress")
            emulator.set_scenario("[batches]\nenqueued_limit = 20")
            over, _, _ = await run_batch(client, lines_of("queue-over", 2))
            (fault,) = over.errors.data
            assert (over.status, fault.code, fault.line) == ("failed", "token_limit_exceeded", None)
            assert fault.message == (
                "Enqueued token limit reached for gpt-5 in organization org-emulator. Limit: 20 enqueued tokens. "
                "Please try again once some in_progress batches have been completed."
            )
            other, _, _ = await run_batch(client, [line_of("queue-2", "1 + 1", model="gpt-4o")])
            assert other.status == "completed"
            await client.batches.cancel(first.id)
            await reached(client, first.id)
            emulator.set_scenario("[batches]\nenqueued_limit = 20\nrelease_s = 600")
            assert (await run_batch(client, lines_of("queue-3", 2)))[0].status == "failed"
            emulator.set_scenario("[batches]\nenqueued_limit = 20")
            assert (await run_batch(client, lines_of("queue-4", 2)))[0].status == "completed"

    asyncio.run(go())


def test_an_expired_batch_keeps_what_was_answered(emulator: Emulator) -> None:
    """At `expires_at` the rest stands in the error file as `batch_expired`; each line is in one file, once."""

    async def go() -> None:
        async with scene(emulator, "[batches]\nrun_s = 2\nexpires_s = 1") as client:
            batch, answered, failed = await run_batch(
                client, [*lines_of("expire", 40), line_of("stuck", STUCK)]
            )
            assert batch.status == "expired"
            assert answered
            assert len(answered) + len(failed) == 41
            assert {line["error"]["code"] for line in failed.values()} == {"batch_expired"}
            assert (batch.request_counts.completed, batch.request_counts.failed) == (len(answered), 0)
            assert batch.in_progress_at <= batch.expires_at <= batch.expired_at
            assert (batch.finalizing_at, batch.completed_at, batch.cancelled_at) == (None, None, None)

    asyncio.run(go())
    assert not emulator.stats()["runs_by_job"].get("stuck")


def test_a_cancelled_batch_keeps_what_was_answered(emulator: Emulator) -> None:
    """Lines that run are finished, the others stand in the error file as `batch_cancelled`; cancelling twice is
    cancelling once; an ended batch is not cancelled."""

    async def go() -> None:
        async with scene(emulator, "[batches]\nrun_s = 600\ncancel_s = 600") as client:
            batch = await create(client, lines_of("cancel", 40))
            await reached(client, batch.id, "in_progress")
            for _ in range(2):
                cancelled = await client.batches.cancel(batch.id)
                assert (cancelled.status, cancelled.output_file_id) == ("cancelling", None)
            emulator.set_scenario("")
            batch = await reached(client, batch.id)
            answered, failed = (
                await read(client, batch.output_file_id),
                await read(client, batch.error_file_id),
            )
            assert batch.status == "cancelled"
            assert {line["custom_id"] for line in answered} == {"cancel-1", "cancel-2"}
            assert len(failed) == 38
            assert {line["error"]["code"] for line in failed} == {"batch_cancelled"}
            assert batch.in_progress_at <= batch.cancelling_at <= batch.cancelled_at
            with pytest.raises(BadRequestError, match="Cannot cancel a batch with status 'cancelled'"):
                await client.batches.cancel(batch.id)

    asyncio.run(go())


def test_a_batch_cancelled_before_it_runs_costs_nothing(emulator: Emulator) -> None:
    """No files, no line carried out."""

    async def go() -> None:
        async with scene(emulator, "[batches]\nvalidate_s = 600") as client:
            batch = await create(client, lines_of("early", 5))
            await client.batches.cancel(batch.id)
            batch = await reached(client, batch.id)
            assert (batch.status, batch.output_file_id, batch.error_file_id) == ("cancelled", None, None)

    asyncio.run(go())
    assert not [one for one in emulator.stats()["runs_by_job"] if one.startswith("early")]


def test_a_completed_batch_may_show_its_files_late(emulator: Emulator) -> None:
    """`null_output_s`: counts tell of answers, the ids are null, and appear later."""

    async def go() -> None:
        async with scene(emulator, "[batches]\nnull_output_s = 600") as client:
            batch, _, _ = await run_batch(client, lines_of("null", 3))
            assert (batch.status, batch.output_file_id, batch.request_counts.completed) == (
                "completed",
                None,
                3,
            )
            emulator.set_scenario("")
            batch = await client.batches.retrieve(batch.id)
            assert len(await read(client, batch.output_file_id)) == 3
            nothing, _, failed = await run_batch(
                client, [line_of("null-4", "[emulate: failed(server_error)] 1")]
            )
            assert (nothing.status, nothing.output_file_id, list(failed)) == ("completed", None, ["null-4"])

    asyncio.run(go())


@pytest.mark.parametrize(("switch", "times"), [("missing_lines", 0), ("repeated_lines", 2)])
def test_lines_go_missing_or_come_twice(emulator: Emulator, switch: str, times: int) -> None:
    """They were carried out and paid for once all the same, and the counts of the batch do not tell."""

    async def go() -> Counter[str]:
        async with scene(emulator, f"[batches]\n{switch} = 0.3") as client:
            batch = await reached(client, (await create(client, lines_of(switch, 60))).id)
            assert batch.request_counts.completed == 60
            return Counter(line["custom_id"] for line in await read(client, batch.output_file_id))

    counts = asyncio.run(go())
    odd = [i for i in range(1, 61) if counts[f"{switch}-{i}"] == times]
    assert 5 < len(odd) < 35
    assert all(counts[f"{switch}-{i}"] == 1 for i in range(1, 61) if i not in odd)
    runs = emulator.stats()["runs_by_job"]
    assert {runs[f"{switch}-{i}"] for i in range(1, 61)} == {1}
    assert not [one for one in ledger(emulator)["lines"]["bought_again"] if one.startswith(switch)]


def test_files_expire_and_are_deleted(emulator: Emulator) -> None:
    """A file past its life is not there; a batch goes on with an input file that was deleted under it."""

    async def go() -> None:
        async with scene(emulator, "[batches]\nfiles_s = 0") as client:
            gone = await upload(client, lines_of("gone", 1))
            with pytest.raises(NotFoundError):
                await client.files.retrieve(gone)
            assert gone not in [one.id async for one in client.files.list(purpose="batch")]
            emulator.set_scenario("[batches]\nrun_s = 600")
            held = line_of("deleted-held", "[emulate: after=0.01] Who?")
            batch = await create(client, [held, *lines_of("deleted", 5)])
            await reached(client, batch.id, "in_progress")
            await client.files.delete(batch.input_file_id)
            emulator.set_scenario("")
            batch = await reached(client, batch.id)
            assert (batch.status, batch.request_counts.completed) == ("completed", 6)

    asyncio.run(go())

"""The `[batches]` and `[tiers]` switches, and the accidents of batches: limits, ends, lost replies, kill -9."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from openai import (
    APIConnectionError,
    AsyncOpenAI,
    BadRequestError,
    NotFoundError,
    RateLimitError,
)

from askmill.emulator.resources.batch_checks import FileCheck
from askmill.emulator.simulation.batch_manners import BatchManners
from askmill.emulator.simulation.scenario import ScenarioError, read_scenario
from tests.emulator.batch_support import (
    CHAT,
    RESPONSES,
    body_of,
    create,
    jsonl,
    ledger,
    line_of,
    reached,
    read,
    run_batch,
    upload,
)
from tests.emulator.emulator_support import JSON_HEADERS, Emulator, open_client, run_emulator
from tests.support import wait_until_async

STUCK = "[emulate: stuck] 1 + 1"


@pytest.fixture(scope="module")
def shared_emulator() -> Iterator[Emulator]:
    with run_emulator() as started:
        yield started


@pytest.fixture
def emulator(shared_emulator: Emulator) -> Iterator[Emulator]:
    """An emulator that the tests of this module share; each test leaves it without a scenario."""
    yield shared_emulator
    shared_emulator.set_scenario("")


@contextlib.asynccontextmanager
async def scene(emulator: Emulator, scenario: str = "") -> AsyncIterator[AsyncOpenAI]:
    """A client of an emulator with this scenario."""
    emulator.set_scenario(scenario)
    async with open_client(emulator.url) as client:
        yield client


def lines_of(prefix: str, n: int, endpoint: str = RESPONSES) -> list[dict[str, Any]]:
    return [line_of(f"{prefix}-{i}", f"Who is {i}?", endpoint) for i in range(1, n + 1)]


# --- the scenario ---


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[batches]\nvalidate = 1", "batches.validate"),
        ("[batches]\nrun_s = -1", "batches.run_s"),
        ("[batches]\nmissing_lines = 2", "batches.missing_lines"),
        ('[batches]\nstyle = "groq"', "batches.style"),
        ('[batches]\nendpoints = ["/v1/embeddings"]', "batches.endpoints"),
        ("[tiers]\nflex_429 = 2", "tiers.flex_429"),
        ('[tiers]\nserved = "cheap"', "tiers.served"),
    ],
)
def test_a_fault_in_the_tables_names_its_key(text: str, named: str) -> None:
    """An unknown key or a bad value is refused by name."""
    with pytest.raises(ScenarioError, match=named.replace(".", r"\.")):
        read_scenario(text)


def test_an_empty_table_is_the_default() -> None:
    """No waiting, no limits of tokens, OpenAI's limits of files."""
    assert read_scenario("[batches]").batches == BatchManners()
    assert (BatchManners().max_lines, BatchManners().max_bytes) == (50_000, 200_000_000)


# --- the check of a file ---

GOOD = line_of("a", "1 + 1")


@pytest.mark.parametrize(
    ("bad", "code", "param"),
    [
        ("{no json", "invalid_json_line", None),
        ("[]", "invalid_json_line", None),
        (GOOD, "duplicate_custom_id", "custom_id"),
        ({k: v for k, v in GOOD.items() if k != "custom_id"}, "missing_required_parameter", "custom_id"),
        (GOOD | {"custom_id": "b", "body": None}, "missing_required_parameter", "body"),
        (GOOD | {"custom_id": "b", "method": "GET"}, "invalid_method", "method"),
        (GOOD | {"custom_id": "b", "url": CHAT}, "url_mismatch", "url"),
        (line_of("b", "1", model="gpt-4o"), "model_mismatch", "body.model"),
        (line_of("b", "1", model="no-such-model"), "model_not_found", "body.model"),
        (line_of("b", "1", model=""), "missing_required_parameter", "body.model"),
        (line_of("b", "1", stream=True), "streaming_unsupported", "body.stream"),
    ],
)
def test_a_faulty_line_is_named(bad: Any, code: str, param: str | None) -> None:
    """Code, number of the line (blank ones count) and parameter of each kind of fault."""
    check = FileCheck(RESPONSES, 50_000)
    for line in jsonl([GOOD, "", bad, line_of("c", "1")]).splitlines():
        assert check.take(line)
    (fault,) = check.end()
    assert (fault["code"], fault["line"], fault["param"]) == (code, 3, param)
    assert fault["message"]


def test_a_file_as_a_whole_is_checked() -> None:
    """An empty file, and one of too many lines."""
    assert [fault["code"] for fault in FileCheck(RESPONSES, 50_000).end()] == ["empty_file"]
    check = FileCheck(RESPONSES, 2)
    taken = [check.take(line) for line in jsonl(lines_of("a", 3)).splitlines()]
    assert taken == [True, True, False]
    assert [(fault["code"], fault["line"]) for fault in check.end()] == [("too_many_tasks", None)]


def test_one_bad_line_fails_the_whole_file_late(emulator: Emulator) -> None:
    """The create is accepted; after `validate_s` the batch has failed, all faults are told and nothing ran."""

    async def go() -> None:
        async with scene(emulator, "[batches]\nvalidate_s = 600") as client:
            lines = [*lines_of("whole", 50), GOOD | {"url": CHAT}, "{"]
            batch = await create(client, lines)
            unknown = await create(client, [], input_file_id="file-unknown")
            assert (batch.status, batch.errors, unknown.status) == ("validating", None, "validating")
            emulator.set_scenario("")
            batch = await reached(client, batch.id)
            told = [(fault.code, fault.line) for fault in batch.errors.data]
            assert (batch.status, told) == ("failed", [("url_mismatch", 51), ("invalid_json_line", 52)])
            assert (batch.output_file_id, batch.error_file_id) == (None, None)
            unknown = await reached(client, unknown.id)
            assert (unknown.status, unknown.errors.data[0].code) == ("failed", "invalid_file")
            emulator.set_scenario("[batches]\nmax_bytes = 10")
            big = await reached(client, (await create(client, lines_of("whole", 1))).id)
            assert (big.status, big.errors.data[0].code) == ("failed", "file_too_large")

    asyncio.run(go())
    assert not [one for one in emulator.stats()["runs_by_job"] if one.startswith("whole")]


def test_a_create_is_checked_at_once(emulator: Emulator) -> None:
    """Unknown endpoints, windows and 17 keys of metadata are 400; so is a life of files below an hour."""

    async def go() -> None:
        async with scene(emulator) as client:
            file_id = await upload(client, [GOOD])
            for fields in (
                {"endpoint": "/v1/embeddings"},
                {"completion_window": "1h"},
                {"metadata": {str(i): "x" for i in range(17)}},
                {"output_expires_after": {"anchor": "created_at", "seconds": 60}},
            ):
                with pytest.raises(BadRequestError):
                    await create(client, [], **({"input_file_id": file_id} | fields))
            with pytest.raises(BadRequestError):
                await client.files.create(
                    file=("a.jsonl", b"{}"),
                    purpose="batch",
                    expires_after={"anchor": "created_at", "seconds": 60},
                )
            with pytest.raises(NotFoundError):
                await client.batches.retrieve("batch_unknown")

    asyncio.run(go())


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
            gone = await upload(client, [GOOD])
            with pytest.raises(NotFoundError):
                await client.files.retrieve(gone)
            assert gone not in [one.id async for one in client.files.list(purpose="batch")]
            emulator.set_scenario("[batches]\nrun_s = 600")
            batch = await create(client, lines_of("deleted", 5))
            await reached(client, batch.id, "in_progress")
            await client.files.delete(batch.input_file_id)
            emulator.set_scenario("")
            batch = await reached(client, batch.id)
            assert (batch.status, batch.request_counts.completed) == ("completed", 5)

    asyncio.run(go())


# --- the wire ---


def test_a_lost_reply_of_a_create_leaves_a_batch(emulator: Emulator) -> None:
    """`drop_after` on create and upload: carried out, and found by listing; with `late_s` some time after."""
    routes = 'only = ["POST /batches", "POST /files"]'

    async def go() -> None:
        async with scene(emulator, f"[http]\ndrop_after = 1\n{routes}") as client:
            with pytest.raises(APIConnectionError):
                await upload(client, lines_of("lost", 2))
            file = (await client.files.list(purpose="batch", order="desc", limit=1)).data[0]
            assert file.filename == "askmill-b1-1-1.jsonl"
            for late in ("", "late_s = 0.2"):
                emulator.set_scenario(f"[http]\ndrop_after = 1\n{routes}\n{late}")
                with pytest.raises(APIConnectionError):
                    await create(client, [], input_file_id=file.id)

            async def both() -> list[Any]:
                listed = [one for one in (await client.batches.list()).data if one.input_file_id == file.id]
                return listed if len(listed) == 2 else []

            for batch in await wait_until_async(both, "the late create is listed"):
                await reached(client, batch.id)

    asyncio.run(go())
    assert emulator.stats()["runs_by_job"]["lost-1"] == 2
    told = ledger(emulator)
    assert told["lines"]["bought_again"]["lost-1"] == 2
    assert 2 in told["creates_by_file"].values()


# --- other servers ---


def test_together_has_upper_case_states_and_no_metadata(emulator: Emulator) -> None:
    """`{job, warning}` on create, a bare list; the input file is all that identifies a batch."""
    with httpx2.Client(base_url=emulator.url, headers=JSON_HEADERS) as client:
        emulator.set_scenario('[batches]\nstyle = "together"\nvalidate_s = 600')
        asked = {
            "input_file_id": "file-x",
            "endpoint": CHAT,
            "completion_window": "24h",
            "metadata": {"a": "b"},
        }
        created = client.post("/batches", json=asked).json()
        job = created["job"]
        assert (job["status"], job["input_file_id"]) == ("VALIDATING", "file-x")
        assert "metadata" not in job
        listed = client.get("/batches").json()
        assert listed[0] == client.get(f"/batches/{job['id']}").json() == job
        assert client.post(f"/batches/{job['id']}/cancel").json()["status"] in {"CANCELING", "CANCELLED"}


def test_a_server_may_have_chat_batches_alone(emulator: Emulator) -> None:
    """Files, batches and chat are there; Responses and a batch for it are 404."""

    async def go() -> None:
        async with scene(emulator, f'[chat]\nonly = true\n[batches]\nendpoints = ["{CHAT}"]') as client:
            batch, answered, _ = await run_batch(client, lines_of("groq", 2, CHAT), CHAT)
            assert (batch.status, len(answered)) == ("completed", 2)
            with pytest.raises(NotFoundError):
                await create(client, lines_of("groq", 2))
            with pytest.raises(NotFoundError):
                await client.responses.create(model="gpt-5", input="1 + 1")
            emulator.set_scenario("[chat]\nonly = true")
            with pytest.raises(NotFoundError):
                await client.batches.list()

    asyncio.run(go())


# --- tiers ---


@pytest.mark.parametrize("endpoint", [RESPONSES, CHAT])
def test_flex_may_lack_capacity(emulator: Emulator, endpoint: str) -> None:
    """429 `resource_unavailable` to flex alone, and nothing was carried out; replies name the tier that served."""

    async def ask(client: AsyncOpenAI, tier: Any) -> Any:
        body = body_of(endpoint, "1 + 1", service_tier=tier)
        api: Any = client.responses if endpoint == RESPONSES else client.chat.completions
        return (await api.create(**body)).service_tier

    async def go() -> None:
        async with scene(emulator, "[tiers]\nflex_429 = 1") as client:
            runs = emulator.stats()["runs_created"]
            with pytest.raises(RateLimitError) as refused:
                await ask(client, "flex")
            assert (refused.value.code, emulator.stats()["runs_created"]) == ("resource_unavailable", runs)
            assert [await ask(client, t) for t in ("auto", "priority", "fast")] == [
                "default",
                "priority",
                "priority",
            ]
            emulator.set_scenario("")
            assert await ask(client, "flex") == "flex"
            emulator.set_scenario('[tiers]\nserved = "default"')
            assert await ask(client, "flex") == "default"

    asyncio.run(go())


# --- kill -9 ---


def test_a_killed_emulator_goes_on_with_its_batches(tmp_path: Path) -> None:
    """Killed in every state, each line is carried out once and stands in the files once."""
    slow = "[batches]\nrun_s = 600"

    async def begin(emulator: Emulator) -> list[str]:
        async with scene(emulator, slow) as client:
            ids = []
            for name in ("one", "two"):
                batch = await create(
                    client, [*lines_of(name, 250), line_of(f"{name}-held", "[emulate: after=1] Who?")]
                )
                ids.append(batch.id)
                await reached(client, batch.id, "in_progress")
            emulator.set_scenario("[batches]\nrun_s = 2")

            async def some() -> bool:
                counts = [(await client.batches.retrieve(one)).request_counts.completed for one in ids]
                return all(0 < count < 251 for count in counts)

            await wait_until_async(some, "some lines were carried out")
            await client.batches.cancel(ids[1])
            return ids

    async def end(emulator: Emulator, ids: list[str]) -> None:
        async with scene(emulator) as client:
            first, second = [await reached(client, one) for one in ids]
            assert (first.status, second.status) == ("completed", "cancelled")
            for batch, name in ((first, "one"), (second, "two")):
                lines = [*await read(client, batch.output_file_id), *await read(client, batch.error_file_id)]
                wanted = [f"{name}-{i}" for i in range(1, 251)] + [f"{name}-held"]
                assert sorted(line["custom_id"] for line in lines) == sorted(wanted)
            assert first.request_counts.completed == 251

    with run_emulator("--state", str(tmp_path)) as emulator:
        ids = asyncio.run(begin(emulator))
        emulator.kill()
    for _ in range(2):
        with run_emulator("--state", str(tmp_path)) as emulator:
            emulator.kill()
    with run_emulator("--state", str(tmp_path)) as emulator:
        asyncio.run(end(emulator, ids))
        lines = ledger(emulator)["lines"]
        assert lines["bought_again"] == {}
        assert set(emulator.stats()["runs_by_job"].values()) == {1}
        assert emulator.stats()["runs_by_job"]["one-held"] == 1

"""The tables `[batches]` and `[tiers]`, and the check of a batch's create and of its file."""

import asyncio
from typing import Any

import pytest
from openai import (
    BadRequestError,
    NotFoundError,
)

from askmill.emulator.resources.batch_checks import FileCheck
from askmill.emulator.simulation.batch_manners import BatchManners
from askmill.emulator.simulation.scenario import ScenarioError, read_scenario
from tests.emulator.batch_support import (
    CHAT,
    RESPONSES,
    create,
    jsonl,
    line_of,
    lines_of,
    reached,
    scene,
    upload,
)
from tests.emulator.emulator_support import Emulator

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

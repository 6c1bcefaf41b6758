"""Accidents of batches on the wire and by kill -9, the manners of other servers, and the tiers."""

import asyncio
from pathlib import Path
from typing import Any

import httpx2
import pytest
from openai import (
    APIConnectionError,
    AsyncOpenAI,
    NotFoundError,
    RateLimitError,
)

from tests.emulator.batch_support import (
    CHAT,
    RESPONSES,
    body_of,
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
from tests.emulator.emulator_support import JSON_HEADERS, Emulator, run_emulator
from tests.support import wait_until_async

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
    """One batch runs, one is being cancelled: each line is carried out once, and stands in the files once."""
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
    with run_emulator("--state", str(tmp_path)) as emulator:
        asyncio.run(end(emulator, ids))
        lines = ledger(emulator)["lines"]
        assert lines["bought_again"] == {}
        assert set(emulator.stats()["runs_by_job"].values()) == {1}
        assert emulator.stats()["runs_by_job"]["one-held"] == 1

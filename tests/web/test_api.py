"""The HTTP API: each route does what the command of the same name does. CONTRACT "HTTP API"."""

import asyncio
import json
from typing import Any

import httpx2
import pytest

from askmill.jobs.model.models import JobStatus
from askmill.jobs.store import Store
from askmill.jobs.store.records import NewRow
from askmill.web.context import Web
from tests.helpers.batches import finish_all_rows, submit_batch, worker_info

CSV = b"id,question\na,What is 2+2?\nb,What is 3+3?\n"


def upload(content: bytes = CSV, name: str = "questions.csv", **fields: Any) -> dict[str, Any]:
    """Arguments of `post` for a form with a file."""
    return {"files": {"file": (name, content)}, "data": fields}


async def submit(client: httpx2.AsyncClient, content: bytes = CSV, **fields: Any) -> str:
    reply = await client.post("/api/batches", **upload(content, **fields))
    assert reply.status_code == 201, reply.text
    return str(reply.json()["batch"])


async def test_a_file_is_submitted_once(client: httpx2.AsyncClient, store: Store, web: Web) -> None:
    """201 with the id, 200 with the same id for the same file and options, another batch for other options."""
    reply = await client.post("/api/batches", **upload(name="my questions.csv", id_column="id"))
    assert reply.status_code == 201
    batch = reply.json()["batch"]
    assert reply.headers["location"] == f"/api/batches/{batch}"
    assert reply.json() | {"notes": []} == {
        "batch": batch,
        "created": True,
        "state": "queued",
        "rows": 2,
        "notes": [],
    }
    stored = await store.batch(batch)
    assert (stored.name, stored.file, stored.spec.id_column) == ("my questions.csv", "my questions.csv", "id")
    assert web.workers.serves(batch)

    again = await client.post("/api/batches", **upload(name="renamed.csv", **{"id-column": "id"}))
    assert (again.status_code, again.json()["batch"], again.json()["created"]) == (200, batch, False)
    assert any("is not finished: nothing new was submitted" in note for note in again.json()["notes"])
    assert await submit(client, id_column="id", instructions="Be brief.") != batch

    headers = {"Idempotency-Key": "2026-11-29"}
    keyed = [await client.post("/api/batches", **upload(id_column="id"), headers=headers) for _ in range(2)]
    assert [reply.status_code for reply in keyed] == [201, 200]
    assert keyed[0].json()["batch"] == keyed[1].json()["batch"] != batch
    assert list(web.uploads.iterdir()) == []


async def test_all_faults_of_a_file_come_together(client: httpx2.AsyncClient, store: Store, web: Web) -> None:
    """422 with each fault's line, in the command line's words, without a path of the server."""
    reply = await client.post("/api/batches", **upload(b"question\n \nfine\n\xff\xfe\n"))
    assert (reply.status_code, reply.headers["content-type"]) == (422, "application/problem+json")
    problem = reply.json()
    assert problem["total"] == 2
    assert [fault["line"] for fault in problem["faults"]] == [2, 4]
    assert problem["detail"].startswith("questions.csv has 2 faults; nothing was submitted:")
    assert str(web.uploads) not in reply.text
    assert await store.list_batches() == []

    accepted = await client.post("/api/batches", **upload(b"question\n \nfine\n", skip_bad_rows="true"))
    assert accepted.status_code == 201


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"functions": "os"}, "functions: only modules that `askmill web --allow-functions` names"),
        ({"base_url": "http://elsewhere/v1"}, "There is no option 'base_url'"),
        ({"on_done": "rm -rf /"}, "There is no option 'on_done'"),
        ({"trust_env_file": "true"}, "There is no option 'trust_env_file'"),
        ({"file": "/etc/passwd"}, "There is no option 'file'"),
        ({"files": "/etc/passwd"}, "files: a path of the server is not taken"),
        ({"profile": "/etc/passwd"}, "profile: a path of the server is not taken"),
        ({"response_schema": "/etc/passwd"}, "response_schema: a path of the server is not taken"),
        ({"response_schema": "../secret.json"}, "response_schema: a path of the server is not taken"),
        ({"temperature": "hot"}, "'hot' is not a valid float"),
        ({"temperature": "3"}, "temperature"),
        ({"new": "perhaps"}, "new must be true or false"),
        ({"question_column": "nosuch"}, "nosuch"),
        ({"budget": "0"}, "must be a number above 0"),
    ],
)
async def test_what_would_reach_into_the_server_is_refused(
    fields: dict[str, str], sentence: str, client: httpx2.AsyncClient, store: Store, web: Web
) -> None:
    """422 in the command line's words, and nothing is stored."""
    if "file" in fields:
        reply = await client.post("/api/batches", files={"x": ("", b"")}, data={"files": "x", **fields})
        sentence = "file"
    else:
        reply = await client.post("/api/batches", **upload(**fields))
    assert reply.status_code == 422, reply.text
    assert sentence in reply.json()["detail"]
    assert str(web.uploads) not in reply.text
    assert await store.list_batches() == []
    assert list(web.uploads.iterdir()) == []


@pytest.mark.parametrize(
    ("profile", "sentence"),
    [
        (b'functions = "os"', "cannot come with an upload"),
        (b'files = ["/etc/passwd"]', "upload them in the field `files`"),
        (b'response_schema = "/etc/passwd"', "write it as a table"),
        (b'base_url = "http://elsewhere"', "there is no such field"),
        (b"model = ", "is not TOML"),
    ],
)
async def test_an_uploaded_profile_names_nothing_of_the_server(
    profile: bytes, sentence: str, client: httpx2.AsyncClient, web: Web
) -> None:
    """A profile file may come as an upload; paths and functions in it are refused."""
    files = {"file": ("q.csv", CSV), "profile": ("mine.toml", profile)}
    reply = await client.post("/api/batches", files=files)
    assert reply.status_code == 422
    assert sentence in reply.json()["detail"]
    assert str(web.uploads) not in reply.text


async def test_a_profile_and_a_schema_may_be_uploaded(client: httpx2.AsyncClient, store: Store) -> None:
    """As files, and the schema as JSON text too; options override the profile."""
    schema = {"type": "object", "properties": {"sum": {"type": "integer"}}}
    files = {"file": ("q.csv", CSV), "profile": ("mine.toml", b'model = "m"\ninstructions = "Add."')}
    reply = await client.post(
        "/api/batches", files=files, data={"response_schema": json.dumps(schema), "model": "n"}
    )
    assert reply.status_code == 201, reply.text
    profile = (await store.batch(reply.json()["batch"])).profile
    assert (profile.model, profile.instructions, profile.response_schema) == ("n", "Add.", schema)


async def test_status_list_and_unknown_batches(client: httpx2.AsyncClient, store: Store) -> None:
    """`status --json`, the list newest first, and 404 with the ids that are near."""
    first, second = await submit(client), await submit(client, name="second", new="true")
    assert (await client.get(f"/api/batches/{first}")).json() == (await store.status(first)).to_json()
    listed = (await client.get("/api/batches")).json()
    assert [batch["batch"] for batch in listed["batches"]] == [second, first]
    assert (await client.get("/api/batches?limit=1")).json()["next"] == 1
    for path in (
        "b_nosuch",
        f"{first}:counters",
        "%00",
        "b_nosuch/rows",
        "b_nosuch/results",
        "b_nosuch/events",
    ):
        reply = await client.get(f"/api/batches/{path}")
        assert (reply.status_code, reply.json()["status"]) == (404, 404), path
    assert first in (await client.get(f"/api/batches/{first[:-1]}")).json()["detail"]
    assert (await client.get(f"/api/batches/{first}/rows/99")).status_code == 404
    nowhere = await client.get("/api/nowhere")
    assert (nowhere.status_code, nowhere.json()["detail"]) == (404, "There is nothing at this address.")
    assert (await client.get(f"/api/batches/{first}/rows?status=lost")).status_code == 422
    assert (await client.get(f"/api/batches/{first}/rows?limit=0")).status_code == 422
    assert (await client.get("/api/nosuch")).headers["content-type"] == "application/problem+json"


async def finished_batch(store: Store) -> str:
    batch = await submit_batch(
        store, [NewRow([f"question {n}"], "bad" if n == 3 else None) for n in range(1, 41)]
    )
    await store.heartbeat(worker_info())
    await finish_all_rows(store)
    return batch


async def test_rows_by_page_status_and_search(client: httpx2.AsyncClient, store: Store) -> None:
    """Pages follow `next`; a search has the same rows whether it is streamed or not."""
    batch = await finished_batch(store)
    page = (await client.get(f"/api/batches/{batch}/rows?limit=30")).json()
    assert ([row["row"] for row in page["rows"]], page["next"]) == (list(range(1, 31)), 30)
    assert page["rows"][0] | {"x": 1} == page["rows"][0] | {"question": "question 1", "answer": "42", "x": 1}
    page = (await client.get(f"/api/batches/{batch}/rows?limit=30&after=30")).json()
    assert ([row["row"] for row in page["rows"]], page["next"]) == (list(range(31, 41)), None)
    page = (await client.get(f"/api/batches/{batch}/rows?status=rejected")).json()
    assert [row["row"] for row in page["rows"]] == [3]

    address = f"/api/batches/{batch}/rows?search=QUESTION+2&limit=8"
    page = (await client.get(address)).json()
    assert ([row["row"] for row in page["rows"]], page["next"]) == ([2, *range(20, 27)], 26)
    page = (await client.get(f"{address}&after={page['next']}")).json()
    assert ([row["row"] for row in page["rows"]], page["next"], page["searched"]) == ([27, 28, 29], None, 40)
    lines = (await client.get(address, headers={"Accept": "application/x-ndjson"})).text.splitlines()
    streamed = [json.loads(line) for line in lines]
    assert [row["row"] for row in streamed[:-1]] == [2, *range(20, 27)]
    assert streamed[-1] == {"searched": 26, "of": 40, "next": 26}


async def test_a_row_has_its_whole_story(client: httpx2.AsyncClient, store: Store) -> None:
    """What `show --json` prints."""
    batch = await finished_batch(store)
    row = (await client.get(f"/api/batches/{batch}/rows/7")).json()
    assert (row["row"], row["answer"], row["runs"][0]["run_id"], row["steps"]) == (7, "42", "run_7", [])


@pytest.mark.parametrize("result_format", ["csv", "jsonl", "parquet"])
async def test_results_are_what_collect_writes(
    result_format: str, client: httpx2.AsyncClient, store: Store, web: Web
) -> None:
    """Streamed, with the name that `collect` chooses, never shown as a page."""
    from askmill.jobs.results import Format, ResultOptions, plan_results  # noqa: PLC0415
    from askmill.jobs.results.collect import collect  # noqa: PLC0415

    batch = await finished_batch(store)
    out = web.uploads / f"expected.{result_format}"
    plan = plan_results(str(out), (await store.batch(batch)).spec, ResultOptions(Format(result_format)))
    await collect(store, batch, plan)

    reply = await client.get(f"/api/batches/{batch}/results?format={result_format}")
    assert reply.content == out.read_bytes()
    assert f'filename="questions.answers.{result_format}"' in reply.headers["content-disposition"]
    assert reply.headers["x-content-type-options"] == "nosniff"


async def test_results_of_one_status_and_some_columns(client: httpx2.AsyncClient, store: Store) -> None:
    """With the sentence of `--columns` for a wrong name."""
    batch = await finished_batch(store)
    reply = await client.get(f"/api/batches/{batch}/results?status=rejected&columns=row,status")
    assert reply.text == "row,status\r\n3,rejected\r\n"
    reply = await client.get(f"/api/batches/{batch}/results?columns=anwser")
    assert (reply.status_code, "did you mean 'answer'" in reply.json()["detail"]) == (422, True)


async def test_a_batch_is_paused_resumed_cancelled_retried_and_deleted(
    client: httpx2.AsyncClient, store: Store
) -> None:
    """Each answers with the command's sentence, and says whether anything changed."""
    batch = await submit(client)

    async def change(action: str, **fields: str) -> dict[str, Any]:
        reply = await client.post(f"/api/batches/{batch}/{action}", data=fields)
        assert reply.status_code == 200, reply.text
        return dict(reply.json())

    assert await change("pause") == {
        "changed": True,
        "message": f"{batch} is paused; runs in flight finish. Run `askmill resume {batch}` to resume.",
    }
    assert await change("pause") == {
        "changed": False,
        "message": f"{batch} is paused already.",
    }
    assert (await change("resume"))["changed"]
    active = await client.delete(f"/api/batches/{batch}")
    assert (active.status_code, "cancel it first" in active.json()["detail"]) == (409, True)
    assert "2 cancelled" in (await change("cancel"))["message"]
    reply = await client.post(f"/api/batches/{batch}/retry", data={"status": "queued"})
    assert (reply.status_code, "cannot be retried" in reply.json()["detail"]) == (422, True)
    assert (await change("retry", status="cancelled", attempts="2"))["message"].startswith("2 rows of ")
    assert (await store.batch(batch)).limits.attempts == 2
    await change("cancel")
    deleted = await client.delete(f"/api/batches/{batch}")
    assert (deleted.status_code, "is deleted here" in deleted.json()["message"]) == (200, True)
    assert (await client.get(f"/api/batches/{batch}")).status_code == 404


async def test_without_a_key_batches_are_read_and_nothing_is_submitted(
    client: httpx2.AsyncClient, web: Web, store: Store
) -> None:
    """422 with the sentence that names the three ways to an API."""
    web.target, web.refusal = None, "OPENAI_API_KEY is not set."
    batch = await submit_batch(store, 1)
    reply = await client.post("/api/batches", **upload())
    assert (reply.status_code, reply.json()["detail"]) == (422, "OPENAI_API_KEY is not set.")
    assert (await client.get(f"/api/batches/{batch}")).status_code == 200


async def test_events_come_from_one_reader_and_end_with_the_batch(web: Web, store: Store) -> None:
    """Five viewers cost one read at a time; each gets the present state at once, and the end."""
    batch = await submit_batch(store, 3)
    await store.heartbeat(worker_info())

    async def watch() -> list[int]:
        return [
            view.counts.by_status[JobStatus.COMPLETED]
            async for view in web.live.views(batch)
            if view is not None
        ]

    viewers = [asyncio.create_task(watch()) for _ in range(5)]
    await asyncio.sleep(0)
    assert web.live.readers == 1
    await finish_all_rows(store)
    seen = await asyncio.gather(*viewers)
    assert {counts[-1] for counts in seen} == {3}
    assert web.live.readers == 0


async def test_the_event_stream_is_of_the_standard_form(client: httpx2.AsyncClient, store: Store) -> None:
    """`retry`, numbered `status` events with `status --json`, and `end`."""
    batch = await finished_batch(store)
    reply = await client.get(f"/api/batches/{batch}/events")
    assert reply.headers["content-type"].startswith("text/event-stream")
    retry, status, end, _ = reply.text.split("\n\n")
    assert (retry, end) == ("retry: 2000", "event: end\ndata: {}")
    number, name, data = status.splitlines()
    assert (number, name) == ("id: 1", "event: status")
    assert json.loads(data.removeprefix("data: "))["state"] == "done"


async def test_openapi_describes_the_form_by_the_options_of_submit(client: httpx2.AsyncClient) -> None:
    """Served with its documentation from own files."""
    schema = (await client.get("/api/openapi.json")).json()
    form = schema["paths"]["/api/batches"]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert {"file", "question_column", "budget", "tool", "files", "attachments"} <= set(form["properties"])
    assert {"trust_env_file", "on_done"} & set(form["properties"]) == set()
    page = await client.get("/api/docs")
    assert page.status_code == 200
    assert "question_column" in page.text


async def test_two_people_at_once(client: httpx2.AsyncClient, store: Store, web: Web) -> None:
    """The same file at once is one batch; files of one name do not mix; of two changes both are answered."""
    both = await asyncio.gather(*(client.post("/api/batches", **upload()) for _ in range(2)))
    assert sorted(reply.status_code for reply in both) == [200, 201]
    batch = next(reply.json()["batch"] for reply in both if reply.status_code == 201)
    assert [stored.id for stored in await store.list_batches()] == [batch]

    contents = [b"question\nWhat is %d+%d?\n" % (n, n) for n in range(4)]
    pages = await asyncio.gather(
        *(client.post("/new", files={"file": ("questions.csv", content)}) for content in contents)
    )
    drafts = [reply.headers["location"] for reply in pages]
    assert len(set(drafts)) == 4
    shown = await asyncio.gather(*(client.get(draft) for draft in drafts))
    assert [f"What is {n}+{n}?" in page.text for n, page in enumerate(shown)] == [True] * 4
    submitted = await asyncio.gather(*(client.post(draft, data={"action": "submit"}) for draft in drafts))
    assert len({reply.headers["location"].partition("?")[0] for reply in submitted}) == 4
    assert list(web.uploads.iterdir()) == []

    changes = await asyncio.gather(
        *(client.post(f"/api/batches/{batch}/{action}") for action in ("pause", "cancel", "pause", "cancel"))
    )
    assert [reply.status_code for reply in changes] == [200] * 4
    assert any(reply.json()["changed"] for reply in changes)
    assert (await store.status(batch)).counts.by_status[JobStatus.CANCELLED] == 2

"""Expected answers and the comparison of batches, on the page and in the API. CONTRACT "Page"."""

import csv

import httpx2
import pytest

from askmill.jobs.model.expected import Expectation
from askmill.jobs.model.models import InputSpec, JobStatus, Result
from askmill.jobs.store import Store
from askmill.jobs.store.codec import pack_result
from askmill.jobs.store.records import NewRow
from askmill.web.background import accuracy
from askmill.web.context import Web
from tests.helpers.batches import new_batch
from tests.web.test_api import submit

SPEC = InputSpec(("question", "label"), "question")


async def answered(store: Store, model: str, answers: list[str], expected: Expectation | None = None) -> str:
    """A finished batch with these answers; the expected one is always yes."""
    new = new_batch(spec=SPEC, name=model, model=model, identity=model.ljust(64, "0"), expected=expected)
    batch = await store.create_batch(new)
    rows = [
        NewRow([f"Question {number}?", "yes"], None, None, pack_result(result_of(answer)))
        for number, answer in enumerate(answers, 1)
    ]
    await store.add_rows(batch, 1, rows)
    await store.seal_batch(batch)
    return batch


def result_of(answer: str) -> Result:
    return Result(1, JobStatus.COMPLETED, answer=answer, cost_usd=0.01, duration_s=1.5)


async def test_batches_side_by_side(client: httpx2.AsyncClient, store: Store) -> None:
    """The summary, all rows or those that differ by page, the row behind each answer, and a file with all."""
    large = await answered(store, "large", ["yes"] * 120, Expectation("label"))
    small = await answered(store, "small", ["yes" if n % 40 else "<b>no</b>" for n in range(1, 121)])

    listed = (await client.get(f"/?compare={large}")).text
    assert f'value="{large}" checked' in listed
    assert f'value="{small}" aria-label' in listed
    page = (await client.get(f"/compare?batch={large}&batch={small}")).text
    assert "<b>3</b> of 120 rows differ" in page
    assert ("100.0 % (95 %" in page, "97.5 % (95 %" in page) == (True, True)
    assert (page.count("≠"), page.count('class="answer-link"')) == (1, 100)
    assert ("&lt;b&gt;no&lt;/b&gt;" in page, "<b>no" in page) == (True, False)
    assert f"/batches/{small}?row=40" in page
    assert f"?batch={large}&amp;batch={small}&amp;after=50" in page
    differing = (await client.get(f"/compare?batch={large}&batch={small}&differing=true")).text
    assert [f'?row={row}"' in differing for row in (40, 80, 120, 1)] == [True, True, True, False]
    assert 'rel="next"' not in differing

    file = await client.get(f"/compare/results?batch={large}&batch={small}&format=csv")
    rows = list(csv.DictReader(file.text.splitlines()))
    assert [row["row"] for row in rows if row["differs"] == "true"] == ["40", "80", "120"]
    assert 'filename="comparison.csv"' in file.headers["content-disposition"]
    assert (await client.get(f"/compare?batch={large}")).headers["location"].startswith("/?note=")


async def test_a_comparison_leaves_no_file_and_refuses_other_questions(
    client: httpx2.AsyncClient, store: Store, web: Web
) -> None:
    """With the sentence of `askmill compare`."""
    first = await answered(store, "first", ["yes"] * 3)
    other = await store.create_batch(new_batch(spec=SPEC, identity="9" * 64))
    await store.add_rows(other, 1, [NewRow([f"Something else {n}?", "yes"]) for n in range(3)])
    await store.seal_batch(other)
    for path in ("/compare", "/compare/results"):
        refused = await client.get(f"{path}?batch={first}&batch={other}")
        assert (refused.status_code, "were not made from the same file" in refused.text) == (422, True)
    assert list(web.uploads.iterdir()) == []
    assert (await client.get("/compare?batch=b_nosuch&batch=b_other")).status_code == 404


async def test_the_accuracy_is_on_the_page_and_in_the_api(
    client: httpx2.AsyncClient, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `status --json` has it; of a sample where the batch is big; measured once for the same rows."""
    batch = await answered(store, "model", ["yes", "no", "yes", "yes"] * 40, Expectation("label"))
    status = (await client.get(f"/api/batches/{batch}")).json()
    assert (status["accuracy"]["judged"], status["accuracy"]["share"]) == (160, 0.75)
    page = (await client.get(f"/batches/{batch}?row=2")).text
    assert "75.0 % <span" in page
    assert "160 judged" in page
    assert ("Expected: <b>yes</b>" in page, "✕ not as expected" in page) == (True, True)
    assert "event: status" in (events := (await client.get(f"/api/batches/{batch}/events")).text)
    assert '"judged":160' in events

    monkeypatch.setattr(accuracy, "SAMPLED_ROWS", 32)
    big = await answered(store, "big", ["yes"] * 160, Expectation("label"))
    assert (await client.get(f"/api/batches/{big}")).json()["accuracy"]["judged"] == 32
    monkeypatch.setattr(Store, "sample", None)
    assert (await client.get(f"/api/batches/{big}")).json()["accuracy"]["judged"] == 32


async def test_the_form_takes_the_expected_column_and_how_it_is_compared(
    client: httpx2.AsyncClient, store: Store
) -> None:
    """A batch submitted with them keeps both; a column that is not there, and a module, are refused."""
    content = b"question,label\nIs it good?,yes\n"
    batch = await submit(client, content, expected="label", match="contains")
    assert (await store.batch(batch)).expected == Expectation("label", "contains")
    for fields in ({"expected": "nosuch"}, {"expected": "label", "match": "judge.py:same"}):
        reply = await client.post("/api/batches", files={"file": ("q.csv", content)}, data=fields)
        assert reply.status_code == 422, reply.text
    created = await client.post("/new", files={"file": ("q.csv", content)})
    form = (await client.get(created.headers["location"])).text
    assert '<select id="o-expected"' in form
    assert '<select id="o-match"' in form
    assert "MODULE.py" not in form

"""Comparing batches of the same questions, and the pages with answers; batches with results, in a real Redis."""

import csv
import re
from dataclasses import replace

import pyarrow.parquet as pq
import pytest

from askmill.jobs.display.compare_view import comparison_lines, comparison_page
from askmill.jobs.display.html_page import MAX_ROWS, RowTable, page
from askmill.jobs.display.html_report import count_rows, report_page
from askmill.jobs.model.errors import UsageError
from askmill.jobs.model.expected import Accuracy, Expectation
from askmill.jobs.model.models import Attempt, InputSpec, JobStatus, Limits, Result, Usage
from askmill.jobs.model.profile import Profile, Resources
from askmill.jobs.results.collect import additions_of, with_accuracy
from askmill.jobs.results.compare import compared_rows, open_comparison, write_comparison
from askmill.jobs.store import Store
from askmill.jobs.store.codec import pack_result
from askmill.jobs.store.records import NewBatch, NewRow

SPEC = InputSpec(("question", "label"), "question")
QUESTIONS = [["Is it good?", "yes"], ["Is it bad?", "no"], ["Is it <b>odd</b>?", "yes"]]


async def stored_batch(store, model, answers, questions=QUESTIONS, expected=None, spec=SPEC, **tier):
    """A batch that is done, with these answers."""
    new = NewBatch(
        name="q.csv", file="q.csv", spec=spec, profile=Profile(model=model, **tier), resources=Resources(),
        api="responses", base_url="http://127.0.0.1:1/v1", model=model, limits=Limits(), identity=f"{model}{len(answers)}{tier}",
        expected=expected,
    )  # fmt: skip
    batch = await store.create_batch(new)
    attempts = (Attempt(1, "t", "r", "completed", usage=Usage(10, 5), cost_usd=0.01, model=model),)
    rows = [
        NewRow(list(cells), None, None, pack_result(Result(1, JobStatus.COMPLETED, answer=answer, attempts=attempts, cost_usd=0.01, duration_s=1.5)))
        for cells, answer in zip(questions, answers, strict=True)
    ]  # fmt: skip
    await store.add_rows(batch, 1, rows)
    await store.seal_batch(batch)
    return batch


async def read(store, comparison):
    return [row async for chunk in compared_rows(store, comparison) for row in chunk]


async def test_two_tiers_are_named(redis_url: str) -> None:
    """The same model in three tiers: columns and summary say which is which. Equal tiers are not named."""
    answers = ["yes", "no", "yes"]
    async with await Store.open(redis_url) as store:
        tiers = ({}, {"service_tier": "flex"}, {"completion_window": "8h"})
        batches = [await stored_batch(store, "large", answers, **tier) for tier in tiers]
        comparison = await open_comparison(store, batches)
        other = await stored_batch(store, "small", answers, service_tier="flex")
        same = await open_comparison(store, [batches[1], other])
    assert [side.name for side in comparison.sides] == ["large standard", "large flex", "large 8h window"]
    assert "large flex.cost_usd" in comparison.columns.names
    assert any(line.startswith("large 8h window") for line in comparison_lines(comparison))
    assert [side.name for side in same.sides] == ["large", "small"]


async def test_two_models_side_by_side(redis_url: str, tmp_path) -> None:
    """Answer, verdict, status, cost and time of each batch; how many differ; accuracy; a confusion matrix."""
    async with await Store.open(redis_url) as store:
        large = await stored_batch(store, "large", ["yes", "no", "yes"], expected=Expectation("label"))
        small = await stored_batch(store, "small", ["yes", "yes", " yes"])
        comparison = await open_comparison(store, [large, small])
        out = tmp_path / "both.csv"
        assert await write_comparison(comparison, compared_rows(store, comparison), str(out)) == out
        lines = comparison_lines(comparison)
        again = await open_comparison(store, [large, small], ["A", "B"])
        parquet = tmp_path / "both.parquet"
        await write_comparison(again, compared_rows(store, again), str(parquet))

    with out.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [
        *("question", "label", "row", "large.answer", "small.answer", "large.correct", "small.correct"),
        *(
            "large.status",
            "small.status",
            "large.cost_usd",
            "small.cost_usd",
            "large.duration_s",
            "small.duration_s",
        ),
        "differs",
    ]
    assert [row["differs"] for row in rows] == ["false", "true", "false"]
    assert [row["small.correct"] for row in rows] == ["true", "false", "true"]
    assert (rows[0]["large.cost_usd"], rows[0]["small.duration_s"]) == ("0.01", "1.5")
    assert [side.accuracy for side in comparison.sides] == [Accuracy(3, 3), Accuracy(3, 2)]
    text = "\n".join(lines)
    assert "1 of 3 rows differ" in text
    assert re.search(r"small\s+b_\w{6}\s+3 of 3\s.*66\.7 % \(95 %: 20\.8 to 93\.9 %\), 3 judged", text)
    assert re.search(r"small: expected.*\nexpected  no  yes\nno        0   1\nyes       0   2", text)
    assert pq.read_table(parquet).column("B.correct").to_pylist() == [True, False, True]


async def test_batches_of_other_questions_are_not_compared(redis_url: str) -> None:
    """Exit 2 names the row and the column; one batch, a batch twice and too few names are refused too."""
    async with await Store.open(redis_url) as store:
        one = await stored_batch(store, "a", ["1", "2", "3"])
        other = await stored_batch(store, "b", ["1", "2"], [QUESTIONS[0], ["Something else?", "no"]])
        comparison = await open_comparison(store, [one, other])
        with pytest.raises(UsageError, match="row 2 differs in the column 'question'"):
            await read(store, comparison)
        for batches, names, words in (([one], (), "two batches"), ([one, one], (), "two batches"), ([one, other], ("x",), "one name of its own")):  # fmt: skip
            with pytest.raises(UsageError, match=words):
                await open_comparison(store, batches, names)


async def test_a_shorter_batch_is_compared_as_far_as_it_goes(redis_url: str) -> None:
    """`--limit` on one of them: the common rows are compared, and the text says so. Equal models: ids name them."""
    async with await Store.open(redis_url) as store:
        whole = await stored_batch(store, "m", ["1", "2", "3"])
        part = await stored_batch(store, "m", ["1", "x"], QUESTIONS[:2])
        comparison = await open_comparison(store, [whole, part])
        rows = await read(store, comparison)
    assert [row[-1] for row in rows] == [False, True]
    assert [side.name for side in comparison.sides] == [whole, part]
    assert "only those that all have were compared" in "\n".join(comparison_lines(comparison))


async def test_pages_show_answers_and_load_nothing(redis_url: str) -> None:
    """`report` and `compare`: filter, search, accuracy, cost by model; text is never markup, no other host."""
    async with await Store.open(redis_url) as store:
        answers = ["yes", "<script>alert(1)</script>", "no"]
        large = await stored_batch(store, "large", answers, expected=Expectation("label"))
        small = await stored_batch(store, "small", ["yes", "no", "no"])
        view = await with_accuracy(store, await store.status(large))
        judge = additions_of(view.batch).judge
        report = report_page(view, await count_rows(view, store.results(large), judge))
        comparison = await open_comparison(store, [large, small])
        compared = await comparison_page(comparison, compared_rows(store, comparison))
    assert view.accuracy == Accuracy(3, 1)
    assert view.to_json()["accuracy"]["share"] == pytest.approx(1 / 3)
    assert "accuracy of 3 (95 %: 6.1 to 79.2 %)" in report
    assert "<h2>Cost by model</h2>" in report
    assert 'data-flags="completed wrong"' in report
    assert 'data-flags="differ wrong:large.correct"' in compared
    for html in (report, compared):
        assert "&lt;script&gt;alert(1)" in html
        assert "Is it &lt;b&gt;odd&lt;/b&gt;?" in html
        assert html.count("<script>") == 1
        assert re.findall(r"(?:src|href)=|https?://(?!127\.0\.0\.1:1/v1)", html) == []
        assert "default-src 'none'" in html


def test_a_page_holds_a_bounded_number_of_rows() -> None:
    """A million rows do not become a page that no browser opens; the page says how many it left out."""
    rows = RowTable(("row", "answer"))
    for number in range(MAX_ROWS + 10):
        rows.add([number, "x" * 9_000 if number == 0 else "y"], ["completed"])
    html = page("t", [rows.html("Answers")])
    assert html.count("<tr data-flags") == MAX_ROWS
    assert "The first 5,000 of 5,010 rows." in html
    assert len(html) < 600_000


async def test_a_stored_function_is_not_run_by_other_commands(redis_url: str) -> None:
    """`status` and `compare` judge by a function only where the command names it (case D10's kind)."""
    async with await Store.open(redis_url) as store:
        batch = await stored_batch(store, "m", ["1", "2", "3"], expected=Expectation("label", "evil.py:run"))
        view = await with_accuracy(store, await store.status(batch))
        assert view.accuracy is None
        assert (
            await with_accuracy(store, replace(view), Expectation("label", "contains"))
        ).accuracy == Accuracy(3, 0)
        await store.set_expected(batch, Expectation("label", "number"))
        assert (await store.batch(batch)).expected == Expectation("label", "number")

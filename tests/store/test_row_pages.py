"""Pages of rows and the search through a batch, with a real Redis."""

import pytest

from askmill.jobs.model.models import JobStatus
from askmill.jobs.store import Store, row_pages
from askmill.jobs.store.records import NewRow
from askmill.jobs.store.views import RowView
from tests.helpers.batches import claim_row, finish_all_rows, make_result, submit_batch, worker_info


async def _heartbeat(store: Store) -> None:
    await store.heartbeat(worker_info())


def _numbers(rows: list[RowView]) -> list[int]:
    return [row.row for row in rows]


async def _found(store: Store, batch: str, text: str, after: int = 0) -> list[int]:
    return [row.row async for step in store.search(batch, text, after) for row in step.rows]


async def test_pages_by_key_cover_every_row_once_in_both_directions(store: Store) -> None:
    """Forwards by the last row of a page, backwards by its first, with the same pages."""
    batch = await submit_batch(store, 40)

    page = await store.rows_after(batch, limit=16)
    assert (_numbers(page.rows), page.more) == (list(range(1, 17)), True)
    assert page.rows[15].cells == ["question 16"]
    page = await store.rows_after(batch, after=32, limit=16)
    assert (_numbers(page.rows), page.more) == (list(range(33, 41)), False)

    page = await store.rows_before(batch, before=33, limit=16)
    assert (_numbers(page.rows), page.more) == (list(range(17, 33)), True)
    page = await store.rows_before(batch, before=17, limit=16)
    assert (_numbers(page.rows), page.more) == (list(range(1, 17)), False)
    assert (await store.rows_after(batch, after=40)).rows == []
    assert (await store.rows_before(batch, before=1)).rows == []


async def test_a_page_of_one_status_skips_all_other_rows(store: Store) -> None:
    """Found in the status bytes, also where they take several windows."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(row_pages, "_FIRST_WINDOW_ROWS", 3)
        patch.setattr(row_pages, "_WINDOW_ROWS", 7)
        batch = await submit_batch(
            store, [NewRow([f"q{n}"], "bad" if n % 10 == 0 else None) for n in range(1, 61)]
        )
        rejected = {JobStatus.REJECTED}

        page = await store.rows_after(batch, limit=2, statuses=rejected)
        assert (_numbers(page.rows), page.more) == ([10, 20], True)
        page = await store.rows_after(batch, after=40, limit=2, statuses=rejected)
        assert (_numbers(page.rows), page.more) == ([50, 60], False)
        page = await store.rows_before(batch, before=50, limit=2, statuses=rejected)
        assert (_numbers(page.rows), page.more) == ([30, 40], True)
        assert (await store.rows_after(batch, statuses={JobStatus.COMPLETED})).rows == []


async def test_a_sample_is_spread_evenly_and_small_batches_are_read_whole(store: Store) -> None:
    """Whole blocks of 16 rows from start to end, each row once, with its own status and cells."""
    small = await submit_batch(store, 40)
    assert [view.row for chunk in [c async for c in store.sample(small, 100)] for view in chunk] == list(
        range(1, 41)
    )
    batch = await submit_batch(
        store, [NewRow([f"q{n}"], "bad" if n % 7 == 0 else None) for n in range(1, 2001)], identity="1" * 64
    )
    views = [view for chunk in [c async for c in store.sample(batch, 320)] for view in chunk]
    assert len({view.row for view in views}) == len(views) == 320
    assert all(view.cells == [f"q{view.row}"] for view in views)
    assert all((view.status is JobStatus.REJECTED) == (view.row % 7 == 0) for view in views)
    assert all(64 <= sum(view.row in quarter for view in views) <= 96 for quarter in _quarters(2000))


def _quarters(rows: int) -> list[range]:
    return [range(first, first + rows // 4) for first in range(1, rows, rows // 4)]


async def test_a_search_finds_text_in_cells_answers_and_errors_in_any_case(store: Store) -> None:
    """Quotes, accents and capitals count as they are read; steps and ids do not count."""
    questions = ["Plain", 'with "quotes" \\ in it', "Ärger in Köln", "other"]
    batch = await submit_batch(store, [NewRow([question]) for question in questions])
    await _heartbeat(store)
    for row in await store.dispatch(1):
        claim = await claim_row(store, row)
        await store.save(claim, b"{}", run_created=True)
        await store.finish(claim, make_result(row.row, answer="The ANSWER is École", error="Rate: Limit"))

    assert await _found(store, batch, "pLAIN") == [1]
    assert await _found(store, batch, '"QUOTES" \\') == [2]
    assert await _found(store, batch, "ÄRGER") == [3]
    assert await _found(store, batch, "answer is école") == [1]
    assert await _found(store, batch, "rate: l") == [1]
    assert await _found(store, batch, "thread_1") == []
    assert await _found(store, batch, "in", after=2) == [3]


async def test_a_search_reports_its_progress_and_reads_only_these_statuses(store: Store) -> None:
    """After each thousand rows, to the last row of the batch."""
    batch = await submit_batch(store, 2100)
    await _heartbeat(store)

    steps = [step async for step in store.search(batch, "question 20", statuses={JobStatus.QUEUED})]
    assert [step.searched for step in steps] == [1024, 2048, 2100]
    assert [row.row for step in steps for row in step.rows] == [20, *range(200, 210), *range(2000, 2100)]
    assert [s.rows async for s in store.search(batch, "question", statuses={JobStatus.FAILED})] == [
        [],
        [],
        [],
    ]


async def test_a_finished_row_is_on_the_page_with_its_result(store: Store) -> None:
    """The page reads statuses and results together."""
    batch = await submit_batch(store, 3)
    await _heartbeat(store)
    await finish_all_rows(store)

    page = await store.rows_after(batch, statuses={JobStatus.COMPLETED})
    assert [(row.status, (row.stored or {})["answer"]) for row in page.rows] == [
        (JobStatus.COMPLETED, "42")
    ] * 3

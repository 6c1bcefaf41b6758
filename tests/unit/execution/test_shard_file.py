"""Which rows have room in the file of a shard: of its model, and within the rest of the budget."""

from askmill.jobs.model.profile import Profile
from askmill.jobs.openai_client.price import Price
from askmill.jobs.openai_client.pricing import Prices
from askmill.worker.execution.shard_file import ShardFile, take_row
from tests.unit.execution.rows import batch_of, claim_of

BATCH = batch_of(Profile(model="cheap", max_prompt_tokens=1000, max_completion_tokens=1000))
PRICES = Prices({"cheap": Price(1.0, 1.0), "costly": Price(1000.0, 1000.0)})
ROW_NANO = 2_000_000
"""2,000 tokens at 1 USD a million."""


def built_of(models: list[str], budget_nano: int | None) -> ShardFile:
    """The file of rows 1, 2, … of these models."""
    built = ShardFile()
    for row, model in enumerate(models, 1):
        take_row(built, BATCH, PRICES, claim_of("q", "", model, row=row), 100, budget_nano)
    return built


def test_a_file_has_one_model_whatever_the_rows_of_others_cost() -> None:
    """A costly row of another model waits for its own shard, and closes neither file nor budget."""
    built = built_of(["cheap", "costly", "cheap", "cheap"], 3 * ROW_NANO)
    assert (built.rows, [row.row for row in built.returned]) == ([1, 3, 4], [2])
    assert (built.over_budget, built.worst_nano) == (False, 3 * ROW_NANO)


def test_a_file_ends_where_the_budget_ends() -> None:
    """The rows after it go back too, so that rows are asked in their order."""
    built = built_of(["cheap", "cheap", "cheap"], 2 * ROW_NANO)
    assert (built.rows, [row.row for row in built.returned]) == ([1, 2], [3])
    assert built.over_budget


def test_a_row_that_alone_exceeds_the_budget_leaves_the_file_empty() -> None:
    """The batch then pauses, as with live runs."""
    built = built_of(["costly", "cheap"], 2 * ROW_NANO)
    assert (built.rows, len(built.returned), built.over_budget) == ([], 2, True)

"""inspect-ai on a CSV: an evaluation without a scorer, without its adaptive connections."""

from pathlib import Path

from asked import measure
from inspect_ai import Task
from inspect_ai import eval as evaluate
from inspect_ai.dataset import FieldSpec, csv_dataset
from inspect_ai.solver import generate


def _ask(questions: Path, answers: Path, in_flight: int) -> None:
    dataset = csv_dataset(str(questions), FieldSpec(input="question", id="id"))
    (log,) = evaluate(
        Task(dataset=dataset, solver=generate()),
        model="openai/gpt-4o-mini",
        model_args={"responses_api": False},
        max_connections=in_flight,
        max_samples=in_flight,
        log_dir=str(answers),
        display="none",
        score=False,
    )
    assert log.status == "success", log.error


if __name__ == "__main__":
    measure(_ask)

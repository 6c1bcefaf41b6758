"""inspect-ai on a CSV: an evaluation without a scorer or adaptive connections; eval_retry goes on with it."""

from pathlib import Path

from asked import measure
from inspect_ai import Task, eval_retry, task
from inspect_ai import eval as evaluate
from inspect_ai.dataset import FieldSpec, csv_dataset
from inspect_ai.log import list_eval_logs
from inspect_ai.solver import generate


@task
def answers_of(questions: str) -> Task:
    return Task(dataset=csv_dataset(questions, FieldSpec(input="question", id="id")), solver=generate())


def _ask(questions: Path, answers: Path, in_flight: int) -> int:
    options = {
        "log_dir": str(answers),
        "max_connections": in_flight,
        "max_samples": in_flight,
        "display": "none",
        "score": False,
    }
    if earlier := list_eval_logs(str(answers)) if answers.exists() else []:
        (log,) = eval_retry(earlier[0], **options)
    else:
        (log,) = evaluate(
            answers_of(str(questions)),
            model="openai/gpt-4o-mini",
            model_args={"responses_api": False},
            **options,
        )
    assert log.status == "success", log.error
    return sum(bool(sample.output.completion) for sample in log.samples or [])


if __name__ == "__main__":
    measure(_ask)

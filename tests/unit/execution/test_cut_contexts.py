"""16: a prompt that the server has cut in silence is recognised by the tokens that it counts."""

import pytest

from askmill.jobs.model.models import Step, Usage
from askmill.worker.backends.context_check import WARNING, seems_cut, warnings_in, with_cut_warning
from askmill.worker.lifecycle.api_types import Answer, Run, RunStatus

LONG = "one two three four five six seven " * 1_000


@pytest.mark.parametrize(
    ("characters", "prompt_tokens", "cut"),
    [
        (34_000, 7_600, False),  # English
        (34_000, 30_000, False),  # Chinese
        (34_000, 5_000, False),  # a table of blanks
        (34_000, 4_096, True),  # Ollama fills its context exactly
        (34_000, 4_090, True),
        (34_000, 3_000, True),
        (120_000, 2_048, True),
        (1_500, 20, False),  # fits every context
        (34_000, 0, False),
    ],
)
def test_so_few_tokens_cannot_stand_for_so_many_characters(
    characters: int, prompt_tokens: int, cut: bool
) -> None:
    """Text of any language passes; what fills a context, and what is impossible, does not."""
    assert seems_cut(characters, prompt_tokens) is cut


def test_the_warning_stands_in_the_message_step_and_nowhere_else() -> None:
    """The answer, its status and its other steps stay as they are."""
    steps = (
        Step("c1", 1, "reasoning", "completed", details={"text": "hm"}),
        Step("c1", 1, "message", "completed", details={"text": "42"}),
    )
    run = Run("c1", RunStatus.COMPLETED, usage=Usage(2_048, 3), answer=Answer("42", 1, steps=steps))
    parts = [{"type": "text", "text": LONG}, {"type": "image_url", "image_url": {"url": "data:x"}}]
    warned = with_cut_warning(run, [{"role": "user", "content": parts}])
    assert warned.answer is not None
    reasoning, message = warned.answer.steps
    assert (reasoning, message.details["text"]) == (steps[0], "42")
    assert "34,000 characters" in message.details[WARNING]
    assert "2,048 prompt tokens" in message.details[WARNING]
    assert (warnings_in(warned.answer), warnings_in(run.answer), warnings_in(None)) == (1, 0, 0)
    for usage in (Usage(8_000, 3), Usage()):
        whole = Run("c1", RunStatus.COMPLETED, usage=usage, answer=Answer("42", 1, steps=steps))
        assert with_cut_warning(whole, [{"role": "user", "content": LONG}]) is whole

"""What was paid for is kept: the text of earlier attempts becomes the row's answer if nothing better follows.

attempt 1 incomplete with text, attempt 2 refused      → incomplete, with the text of attempt 1
attempt 1 expired with text, attempt 2 failed without  → failed, with the text of attempt 1
attempt 1 incomplete, `continue`                       → the parts joined, in one place: `joined`

Pure, as `worker.lifecycle.transitions`.
"""

from dataclasses import replace

from askmill.jobs.model.models import JobStatus
from askmill.worker.lifecycle.api_types import Answer
from askmill.worker.lifecycle.decision import Finish
from askmill.worker.lifecycle.state import JobState, KeptAnswer

CONTINUE_PROMPT = "Your answer was cut off. Go on exactly where it stopped, repeating nothing."


def joined(state: JobState, answer: Answer) -> Answer:
    """The answer with the part that it continues in front of it; its steps are its own."""
    if not state.continuing or state.kept is None:
        return answer
    before = state.kept.answer
    return replace(
        answer,
        text=before.text + answer.text,
        citations=(*before.citations, *answer.citations),
        files=(*before.files, *answer.files),
    )


def better(kept: KeptAnswer | None, answer: Answer, error: str | None = None) -> KeptAnswer | None:
    """The longer of what is kept and what an attempt wrote. `error`: the reason, if it is incomplete.

    Of two of the same length the kept one stays, with its reason: a continuation may have added nothing.
    """
    if not answer.text or (kept is not None and len(kept.answer.text) >= len(answer.text)):
        return kept
    return KeptAnswer(replace(answer, steps=()), error)


def with_kept_answer(state: JobState, finish: Finish) -> tuple[JobState, Finish]:
    """The row's end, with the kept answer if the last attempt wrote less and did not complete.

    A kept incomplete answer makes the row `incomplete`, unless the user cancels it; the error says what
    followed.
    """
    kept, run, own = state.kept, state.ended_run, state.answer or Answer()
    whole = own.messages > 0 and run is not None and run.status == "completed"
    if kept is None or whole or finish.status is JobStatus.COMPLETED:
        return state, finish
    own_is_longer = len(finish.answer) >= len(kept.answer.text)
    if own_is_longer and not state.continuing:
        return state, finish
    if not own_is_longer:
        answer = replace(kept.answer, steps=own.steps, last_message_id=own.last_message_id)
        state, finish = replace(state, answer=answer), replace(finish, answer=answer.text)
    if kept.error is None or finish.status in {JobStatus.CANCELLED, JobStatus.INCOMPLETE}:
        return state, finish
    error = f"{kept.error}: then {finish.error or finish.status.value}"
    return state, replace(finish, status=JobStatus.INCOMPLETE, error=error)

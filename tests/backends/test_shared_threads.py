"""Several turns on one thread: each reads and recovers only its own messages, for both APIs."""

from dataclasses import replace

from askmill.jobs.model.profile import OpeningMessage, Profile
from askmill.worker.lifecycle.api_types import LookupKind
from tests.backends.backend_session import TUTOR, BackendSession

PLAIN = Profile(model="gpt-5-mini")


async def test_a_truncated_answer_can_be_continued(session: BackendSession) -> None:
    """The next turn continues the text, and its own answer is only the rest."""
    question = "What is 17 * 23? [emulate: incomplete(max_completion_tokens), completed]"
    request = await session.new_request(question, PLAIN)
    thread_id, truncated = await session.start_and_wait(request)
    cut = await session.backend.read_answer(request, thread_id, truncated.id)
    continued = replace(
        request, attempt=2, question="Go on.", follow_up=True, after_message_id=cut.last_message_id
    )
    second = await session.backend.create_run(continued, thread_id)
    ended = await session.wait(continued, thread_id, second.id)
    rest = await session.backend.read_answer(continued, thread_id, second.id)
    _, whole = await session.answer("What is 17 * 23?", PLAIN)
    assert ended.status == "completed"
    assert cut.text
    assert rest.text
    assert (cut.text + rest.text).replace(" ", "") == whole.text.replace(" ", "")


async def test_a_later_turn_reads_only_its_own_messages(session: BackendSession) -> None:
    """Two questions on one thread: the second answer has nothing of the first."""
    request = await session.new_request("What is 17 * 23?")
    thread_id, run = await session.start_and_wait(request)
    first = await session.backend.read_answer(request, thread_id, run.id)

    later = session.next_turn_request(request, "What is 5 + 6?", first)
    assert (
        await session.backend.recover_run(later, thread_id, frozenset({run.id}))
    ).kind is LookupKind.NOTHING
    continued = await session.backend.create_run(later, thread_id)
    assert continued.id != run.id
    await session.wait(later, thread_id, continued.id)
    second = await session.backend.read_answer(later, thread_id, continued.id)
    assert "11" in second.text
    assert "391" not in second.text
    assert second.messages == 1


async def test_a_lost_run_of_a_later_turn_is_not_an_earlier_one(session: BackendSession) -> None:
    """On a shared thread only this turn's run or items count."""
    request = await session.new_request("What is 17 * 23?")
    thread_id, run = await session.start_and_wait(request)
    first = await session.backend.read_answer(request, thread_id, run.id)
    later = session.next_turn_request(request, "What is 5 + 6?", first)
    later_run = await session.backend.create_run(later, thread_id)
    await session.wait(later, thread_id, later_run.id)

    lookup = await session.backend.recover_run(later, thread_id, frozenset({run.id}))
    answer = await session.backend.read_answer(later, thread_id, lookup.run.id if lookup.run else None)
    assert "11" in answer.text
    assert "391" not in answer.text


async def test_deleting_a_failed_turn_keeps_earlier_turns(session: BackendSession) -> None:
    """Messages after the last good one go, and that one stays the last."""
    request = await session.new_request("What is 17 * 23?")
    thread_id, run = await session.start_and_wait(request)
    first = await session.backend.read_answer(request, thread_id, run.id)
    failed = session.next_turn_request(request, "What is 5 + 6?", first)
    later_run = await session.backend.create_run(failed, thread_id)
    await session.wait(failed, thread_id, later_run.id)

    await session.backend.delete_failed_turn(thread_id, first.last_message_id)
    await session.backend.delete_failed_turn(thread_id, first.last_message_id)

    on_thread = run.id if session.backend.api == "assistants" else None
    kept = await session.backend.read_answer(request, thread_id, on_thread)
    assert kept.text == first.text
    repeated = replace(failed, attempt=2, question="What is 8 + 9?")
    found = await session.backend.recover_run(repeated, thread_id, frozenset({run.id, later_run.id}))
    assert found.kind is LookupKind.NOTHING
    continued = await session.backend.create_run(repeated, thread_id)
    await session.wait(repeated, thread_id, continued.id)
    answer = await session.backend.read_answer(repeated, thread_id, continued.id)
    assert "17" in answer.text
    assert "11" not in answer.text


async def test_opening_messages_are_not_an_answer(session: BackendSession) -> None:
    """Neither for a read nor for the recovery of a lost run."""
    messages = (
        OpeningMessage(role="user", content="I like short answers."),
        OpeningMessage(role="assistant", content="Noted: short answers."),
    )
    profile = TUTOR.model_copy(update={"messages": messages})
    request = await session.new_request("What is 2 + 2?", profile)
    thread_id = await session.backend.create_thread(request)
    assert (await session.backend.recover_run(request, thread_id, frozenset())).kind is LookupKind.NOTHING
    run = await session.backend.create_run(request, thread_id)
    await session.wait(request, thread_id, run.id)
    answer = await session.backend.read_answer(request, thread_id, run.id)
    assert "Noted" not in answer.text
    found = await session.backend.recover_run(request, thread_id, frozenset())
    adopted = await session.backend.read_answer(request, thread_id, found.run.id if found.run else None)
    assert adopted.text == answer.text

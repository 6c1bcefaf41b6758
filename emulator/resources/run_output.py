"""Write the run steps and messages of a run, as the Assistants API shows them."""

from askmill.emulator.protocol.ids import new_id
from askmill.emulator.protocol.routing import Json
from askmill.emulator.resources.run_object import Run
from askmill.emulator.resources.threads import Threads, text_part
from askmill.emulator.simulation.answer import Answer, GeneratedFile, count_tokens
from askmill.emulator.simulation.file_library import FileLibrary
from askmill.emulator.simulation.file_search import add_markers, cited_positions
from askmill.emulator.simulation.journal import Store

_MESSAGE_REASONS = {
    "cancelled": "run_cancelled",
    "expired": "run_expired",
    "failed": "run_failed",
    "incomplete": "max_tokens",
}


class RunWriter:
    """Stores run steps, and the messages and files that a run produces."""

    def __init__(self, store: Store, threads: Threads, library: FileLibrary) -> None:
        self.steps = store.table("step", dict, lambda row: str(row["run_id"]))
        self.threads = threads
        self._library = library

    def open_call_step(self, run: Run, now: float) -> None:
        """Store the step of a run that waits for function outputs, once."""
        if not any(step["status"] == "in_progress" for step in self.steps.children(run.id)):
            since = run.state.plan.passed("requires_action", now) or now
            self._step(run, since, _calls(run), status="in_progress", completed_at=None, usage=None)

    def close_call_step(self, run: Run, now: float) -> None:
        """Complete the step of the function calls: their outputs have arrived."""
        self._close(
            run, {"status": "completed", "completed_at": int(now), "usage": _usage(run, _call_text(run))}
        )

    def write_end(self, run: Run, answer: Answer, status: str, at: float) -> Json:
        """Store the steps and messages of a run that has ended. Returns its usage."""
        if status in {"expired", "cancelled", "failed"}:
            since = {f"{status}_at": int(at), "status": status, "usage": _usage(run, _call_text(run))}
            self._close(run, since)
        image_id = self._store_file(answer.image, at)
        tools = [*_searches(answer), *_code(answer, image_id)]
        for details in tools:
            self._step(
                run, at, {"type": "tool_calls", "tool_calls": [details]}, usage=_usage(run, answer.code or "")
            )
        content = self._contents(answer, image_id, at)
        message_tokens = max(0, answer.completion_tokens - count_tokens(answer.code or ""))
        attached_id = self._store_file(answer.unlinked_file, at)
        for i, parts in enumerate(content):
            message = self._message(run, parts, status, at)
            if attached_id and i == len(content) - 1:
                attached = [{"file_id": attached_id, "tools": [{"type": "code_interpreter"}]}]
                self.threads.messages.put(message["id"], message | {"attachments": attached})
            share = message_tokens // len(content) + (message_tokens % len(content) if i == 0 else 0)
            details = {"type": "message_creation", "message_creation": {"message_id": message["id"]}}
            self._step(run, at, details, usage=_counted(run, share))
        return self._total(run)

    def delete_steps(self, run_id: str) -> None:
        for step in self.steps.children(run_id):
            self.steps.drop(step["id"])

    def _total(self, run: Run) -> Json:
        usages = [step["usage"] for step in self.steps.children(run.id) if step["usage"]] or [
            _counted(run, 0)
        ]
        return {name: sum(usage[name] for usage in usages) for name in usages[0]}

    def _close(self, run: Run, changes: Json) -> None:
        for step in self.steps.children(run.id):
            if step["status"] == "in_progress":
                self.steps.put(step["id"], step | changes | {"step_details": _calls(run)})

    def _step(self, run: Run, at: float, details: Json, **changes: object) -> None:
        row: Json = {
            "id": new_id("step_"),
            "object": "thread.run.step",
            "created_at": int(at),
            "run_id": run.id,
            "assistant_id": run.fields["assistant_id"],
            "thread_id": run.thread_id,
            "type": details["type"],
            "status": "completed",
            "cancelled_at": None,
            "completed_at": int(at),
            "expired_at": None,
            "failed_at": None,
            "last_error": None,
            "metadata": {},
            "step_details": details,
            "usage": None,
        } | changes
        self.steps.put(row["id"], row)

    def _message(self, run: Run, parts: list[Json], status: str, at: float) -> Json:
        written: Json = {"run_id": run.id, "assistant_id": run.fields["assistant_id"]}
        if reason := _MESSAGE_REASONS.get(status):
            written |= {
                "status": "incomplete",
                "completed_at": None,
                "incomplete_at": int(at),
                "incomplete_details": {"reason": reason},
            }
        return self.threads.add_message(run.thread_id, {"role": "assistant", "content": parts}, at, **written)

    def _contents(self, answer: Answer, image_id: str | None, at: float) -> list[list[Json]]:
        """The content parts of each message."""
        if answer.refusal:
            return [[{"type": "refusal", "refusal": answer.refusal}]]
        contents = [[text_part(text)] for text in answer.messages]
        if contents and answer.passages and not answer.truncated:
            cited = cited_positions(answer.messages[-1], answer.passages, often=answer.dense_citations)
            contents[-1] = [text_part(*add_markers(*cited))]
        if contents and answer.linked_file:
            contents[-1] = [
                _linked(
                    answer.messages[-1],
                    self._store_file(answer.linked_file, at) or "",
                    answer.linked_file.name,
                )
            ]
        if contents and image_id:
            contents[-1].insert(
                0, {"type": "image_file", "image_file": {"file_id": image_id, "detail": "auto"}}
            )
        return contents

    def _store_file(self, file: GeneratedFile | None, at: float) -> str | None:
        if file is None:
            return None
        return str(self._library.add(file.name, file.content, "assistants_output", at)["id"])


def _linked(text: str, file_id: str, name: str) -> Json:
    link = f"sandbox:/mnt/data/{name}"
    before = f"{text}\n\n[Download {name}]("
    annotation = {
        "type": "file_path",
        "text": link,
        "start_index": len(before),
        "end_index": len(before) + len(link),
        "file_path": {"file_id": file_id},
    }
    return text_part(f"{before}{link})", [annotation])


def _searches(answer: Answer) -> list[Json]:
    if answer.passages is None:
        return []
    results = [
        {
            "file_id": p.file_id,
            "file_name": p.filename,
            "score": p.score,
            "content": [{"type": "text", "text": p.text}],
        }
        for p in answer.passages
    ]
    ranking = {"ranker": "auto", "score_threshold": 0.0}
    return [
        {
            "id": new_id("call_"),
            "type": "file_search",
            "file_search": {"ranking_options": ranking, "results": results},
        }
    ]


def _code(answer: Answer, image_id: str | None) -> list[Json]:
    if answer.code is None:
        return []
    outputs: list[Json] = [{"type": "logs", "logs": answer.logs}]
    if image_id:
        outputs.append({"type": "image", "image": {"file_id": image_id}})
    return [
        {
            "id": new_id("call_"),
            "type": "code_interpreter",
            "code_interpreter": {"input": answer.code, "outputs": outputs},
        }
    ]


def _calls(run: Run) -> Json:
    calls = [
        {
            "id": call["id"],
            "type": "function",
            "function": {"name": call["name"], "arguments": call["arguments"], "output": call["output"]},
        }
        for call in run.state.calls
    ]
    return {"type": "tool_calls", "tool_calls": calls}


def _call_text(run: Run) -> str:
    return " ".join(call["arguments"] for call in run.state.calls)


def _usage(run: Run, text: str) -> Json:
    return _counted(run, count_tokens(text))


def _counted(run: Run, completion: int) -> Json:
    prompt = run.state.prompt.prompt_tokens
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}

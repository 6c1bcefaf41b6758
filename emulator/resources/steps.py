"""/threads/{id}/runs/{id}/steps: what a run did."""

from askmill.emulator.protocol.errors import not_found
from askmill.emulator.protocol.pagination import page
from askmill.emulator.protocol.routing import Call, Json, Route
from askmill.emulator.resources.runs import Runs

CONTENT = "step_details.tool_calls[*].file_search.results[*].content"


class Steps:
    """List and get; the text of search results only when `include` asks for it."""

    def __init__(self, runs: Runs) -> None:
        self._runs = runs

    def routes(self) -> list[Route]:
        steps = "/threads/{thread_id}/runs/{run_id}/steps"
        return [
            Route("GET", steps, self.list_all, beta=True),
            Route("GET", steps + "/{step_id}", self.retrieve, beta=True),
        ]

    def list_all(self, call: Call) -> Json:
        run = self._runs.get(call.ids)
        self._runs.look(run, call.now)
        listed = page(self._runs.writer.steps.children(run.id), call)
        return listed | {"data": [_shown(step, call) for step in listed["data"]]}

    def retrieve(self, call: Call) -> Json:
        run = self._runs.get(call.ids)
        self._runs.look(run, call.now)
        step = self._runs.writer.steps.get(call.ids[2])
        if step is None or step["run_id"] != run.id:
            raise not_found("run step", call.ids[2])
        return _shown(step, call)


def _shown(step: Json, call: Call) -> Json:
    calls = step["step_details"].get("tool_calls", [])
    if CONTENT in call.arguments("include") or not any(one["type"] == "file_search" for one in calls):
        return step
    return step | {
        "step_details": step["step_details"] | {"tool_calls": [_without_content(one) for one in calls]}
    }


def _without_content(call: Json) -> Json:
    if call["type"] != "file_search":
        return call
    results = [
        {k: v for k, v in result.items() if k != "content"} for result in call["file_search"]["results"]
    ]
    return call | {"file_search": call["file_search"] | {"results": results}}

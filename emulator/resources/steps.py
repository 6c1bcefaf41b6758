"""/threads/{id}/runs/{id}/steps: the steps of a run."""

from askmill.emulator.protocol.errors import not_found
from askmill.emulator.protocol.pagination import page
from askmill.emulator.protocol.routing import Json, Request, Route
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

    def list_all(self, request: Request) -> Json:
        run = self._runs.get(request.ids)
        self._runs.refresh(run, request.now)
        listed = page(self._runs.writer.steps.children(run.id), request)
        return listed | {"data": [_shown(step, request) for step in listed["data"]]}

    def retrieve(self, request: Request) -> Json:
        run = self._runs.get(request.ids)
        self._runs.refresh(run, request.now)
        step = self._runs.writer.steps.get(request.ids[2])
        if step is None or step["run_id"] != run.id:
            raise not_found("run step", request.ids[2])
        return _shown(step, request)


def _shown(step: Json, request: Request) -> Json:
    calls = step["step_details"].get("tool_calls", [])
    if CONTENT in request.arguments("include") or not any(one["type"] == "file_search" for one in calls):
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

"""/models: any name is a model, except those that begin with `no-such`."""

from askmill.emulator.protocol.routing import Json, Request, Route
from askmill.emulator.resources.assistants import check_model

LISTED = ("gpt-4.1", "gpt-4.1-mini", "gpt-4o", "gpt-4o-mini", "gpt-5", "gpt-5-mini", "gpt-6-luna")
CREATED = 1_735_689_600


def routes() -> list[Route]:
    """The handlers below."""
    return [Route("GET", "/models", list_all), Route("GET", "/models/{model}", retrieve)]


def list_all(_request: Request) -> Json:
    """A few names that the real API lists too."""
    return {"object": "list", "data": [_model(name) for name in LISTED]}


def retrieve(request: Request) -> Json:
    """Return the model of any name; 404 for `no-such…`."""
    check_model(request.ids[0])
    return _model(request.ids[0])


def _model(name: str) -> Json:
    return {"id": name, "object": "model", "created": CREATED, "owned_by": "system"}

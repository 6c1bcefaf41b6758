"""/models: any name is a model, except those that begin with `no-such`; or those that the scenario names."""

from askmill.emulator.protocol.routing import Json, Request, Route
from askmill.emulator.resources.chat_request import check_served
from askmill.emulator.simulation.engine import Engine

LISTED = ("gpt-4.1", "gpt-4.1-mini", "gpt-4o", "gpt-4o-mini", "gpt-5", "gpt-5-mini", "gpt-6-luna")
CREATED = 1_735_689_600


class Models:
    """List and get."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def routes(self) -> list[Route]:
        return [Route("GET", "/models", self.list_all), Route("GET", "/models/{model}", self.retrieve)]

    def list_all(self, _request: Request) -> Json:
        """The models of the scenario, else a few names that the real API lists too."""
        names = self._engine.scenario.chat.models or LISTED
        return {"object": "list", "data": [_model(name) for name in names]}

    def retrieve(self, request: Request) -> Json:
        """Return the model of any name that is served; 404 for others."""
        check_served(request.ids[0], self._engine.scenario.chat)
        return _model(request.ids[0])


def _model(name: str) -> Json:
    return {"id": name, "object": "model", "created": CREATED, "owned_by": "system"}

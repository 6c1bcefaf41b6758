"""All parts of one emulator: the store, the engine and each resource with its routes."""

from pathlib import Path

from askmill.emulator.protocol.clock import Clock
from askmill.emulator.protocol.routing import Json, Route
from askmill.emulator.resources.assistants import Assistants
from askmill.emulator.resources.batch_lines import Lines
from askmill.emulator.resources.batches import Batches
from askmill.emulator.resources.chat_completions import ChatCompletions
from askmill.emulator.resources.containers import Containers
from askmill.emulator.resources.conversations import Conversations
from askmill.emulator.resources.files import Files
from askmill.emulator.resources.models import Models
from askmill.emulator.resources.responses import Responses
from askmill.emulator.resources.run_output import RunWriter
from askmill.emulator.resources.runs import Runs
from askmill.emulator.resources.steps import Steps
from askmill.emulator.resources.threads import Threads
from askmill.emulator.resources.vector_stores import VectorStores
from askmill.emulator.simulation.answer import Tutor
from askmill.emulator.simulation.engine import Engine
from askmill.emulator.simulation.file_library import FileLibrary
from askmill.emulator.simulation.journal import Store
from askmill.emulator.simulation.scenario import Scenario
from askmill.emulator.simulation.spool import Spool


class Registry:
    """Opens the store at once; StateError if the state folder cannot be used."""

    def __init__(self, folder: Path | None, seed: int, tutor: Tutor, clock: Clock) -> None:
        self.store = Store(folder)
        self._spool = Spool(folder)
        self._library = FileLibrary(self.store, self._spool)
        self._library.clock = clock
        self.engine = Engine(self.store, self._library, tutor, seed)
        self.engine.clock = clock
        self._assistants = Assistants(self.store, self._library)
        self._threads = Threads(self.store, self._library)
        self._runs = Runs(
            self.store, self.engine, self._assistants, RunWriter(self.store, self._threads, self._library)
        )
        self._vector_stores = VectorStores(self.store, self._library)
        self._conversations = Conversations(self.store)
        self._containers = Containers(self.store)
        self._responses = Responses(
            self.store, self.engine, self._library, self._conversations, self._containers
        )
        self._chat = ChatCompletions(self.store, self.engine, seed)
        lines = Lines(self.engine, self._responses, self._chat, seed)
        self.batches = Batches(self.store, self.engine, self._library, lines)
        self.store.open()
        self._spool.open()

    def set_scenario(self, scenario: Scenario, now: float) -> None:
        """Use this scenario from now on."""
        self.engine.scenario = scenario
        self._chat.set_manners(scenario.chat, now)
        self.batches.set_scenario()

    def resume_unfinished(self, now: float) -> None:
        """Resume the runs and responses that had not ended when the emulator stopped."""
        self._runs.resume_unfinished(now)
        self._responses.resume_unfinished(now)
        self.batches.resume_unfinished()

    def routes(self) -> list[Route]:
        parts = (
            self._assistants,
            self._threads,
            self._runs,
            Steps(self._runs),
            Files(self._library, self.engine),
            self.batches,
            self._vector_stores,
            self._responses,
            self._conversations,
            self._containers,
            self._chat,
            Models(self.engine),
        )
        return [route for part in parts for route in part.routes()]

    def stats(self, now: float) -> Json:
        """Return the body of GET /emulator/stats: requests by route, runs, tokens."""
        self.engine.refresh_all(now)
        counters = self.store.counters
        lines = self.batches.runs_by_job()
        return {
            "requests": self._counted("requests "),
            "runs_created": counters["runs_created"] + sum(lines.values()),
            "runs_by_job": self._counted("runs_by_job ") | lines,
            "runs_active": self.engine.activity.count(now),
            "runs_active_max": self.engine.activity.peak,
            "tokens": counters["tokens"],
        }

    def _counted(self, prefix: str) -> dict[str, int]:
        return {
            name.removeprefix(prefix): n for name, n in self.store.counters.items() if name.startswith(prefix)
        }

"""/batches: create, list, retrieve, cancel; and for tests, what was carried out."""

from askmill.emulator.protocol.batch_errors import no_cancel_of_batch, no_endpoint
from askmill.emulator.protocol.errors import not_found
from askmill.emulator.protocol.ids import new_id
from askmill.emulator.protocol.pagination import page
from askmill.emulator.protocol.routing import Json, Reply, Request, Result, Route, json_bytes
from askmill.emulator.protocol.validation import METADATA, Rule, Shape, check, object_of
from askmill.emulator.resources.batch_lines import Lines
from askmill.emulator.resources.batch_object import ACTIVE, Batch
from askmill.emulator.resources.batch_work import BatchWork
from askmill.emulator.simulation.batch_manners import ENDPOINTS, BatchManners
from askmill.emulator.simulation.engine import Engine
from askmill.emulator.simulation.file_library import FileLibrary
from askmill.emulator.simulation.journal import Store

HOUR_S, MONTH_S = 3600, 30 * 86_400
EXPIRES_AFTER: Shape = {
    "anchor": Rule((str,), required=True, null=False, values=("created_at",)),
    "seconds": Rule((int,), required=True, null=False, low=HOUR_S, high=MONTH_S),
}
CREATE_BODY: Shape = {
    "input_file_id": Rule((str,), required=True, null=False),
    "endpoint": Rule((str,), required=True, null=False, values=ENDPOINTS),
    "completion_window": Rule((str,), required=True, null=False, values=("24h",)),
    "metadata": METADATA,
    "output_expires_after": Rule((dict,), inside=object_of(EXPIRES_AFTER)),
}
BOUGHT_AGAIN_SHOWN = 1000


class Batches:
    """All batches."""

    def __init__(self, store: Store, engine: Engine, library: FileLibrary, lines: Lines) -> None:
        self._engine = engine
        self._spool = library.spool
        self._work = BatchWork(store, engine, library, lines)
        self._rows = self._work.rows

    def routes(self) -> list[Route]:
        one = "/batches/{batch_id}"
        return [
            Route("POST", "/batches", self.create),
            Route("GET", "/batches", self.list_all),
            Route("GET", one, self.retrieve),
            Route("POST", one + "/cancel", self.cancel),
        ]

    @property
    def _manners(self) -> BatchManners:
        return self._engine.scenario.batches

    def set_scenario(self) -> None:
        """A new scenario counts for batches that are under way too."""
        self._work.wake()

    def resume_unfinished(self) -> None:
        """Resume the batches that had not ended when the emulator stopped."""
        for batch in self._rows.rows.values():
            if batch.status in ACTIVE:
                self._work.resume(batch)

    # --- handlers ---

    def create(self, request: Request) -> Json:
        """A new batch; whether its file is there and fit to be run shows later."""
        body = check(request.json(), CREATE_BODY)
        if self._manners.endpoints and body["endpoint"] not in self._manners.endpoints:
            raise no_endpoint(body["endpoint"])
        batch = Batch(
            id=new_id("batch_"),
            input_file_id=body["input_file_id"],
            endpoint=body["endpoint"],
            completion_window=body["completion_window"],
            metadata=body.get("metadata"),
            created_at=request.now,
            expires_at=request.now + self._manners.expires_s,
            output_id=new_id("file-"),
            error_id=new_id("file-"),
            result_files_s=(body.get("output_expires_after") or {}).get("seconds"),
        )
        self._rows.put(batch.id, batch)
        self._work.begin(batch)
        shown = batch.to_api(request.now, self._manners)
        return {"job": shown, "warning": ""} if self._manners.style == "together" else shown

    def list_all(self, request: Request) -> Result:
        """Newest first."""
        listed_until = request.now - self._manners.list_late_s
        rows = [row for row in self._rows.rows.values() if row.created_at <= listed_until]
        listed = page([{"id": row.id} for row in rows], request)
        listed["data"] = [
            self._rows.rows[one["id"]].to_api(request.now, self._manners) for one in listed["data"]
        ]
        return Reply(json_bytes(listed["data"])) if self._manners.style == "together" else listed

    def retrieve(self, request: Request) -> Json:
        return self._get(request).to_api(request.now, self._manners)

    def cancel(self, request: Request) -> Json:
        """Carry out no more lines. Cancelling twice is cancelling once."""
        batch = self._get(request)
        if batch.status not in ACTIVE:
            raise no_cancel_of_batch(batch.status)
        if batch.status != "cancelling":
            self._work.enter(batch, "cancelling")
        return batch.to_api(request.now, self._manners)

    def _get(self, request: Request) -> Batch:
        batch = self._rows.get(request.ids[0])
        if batch is None:
            raise not_found("batch", request.ids[0])
        return batch

    # --- for tests ---

    def ledger(self, _request: Request) -> Json:
        """The body of GET /emulator/batches: creates and lines that were carried out."""
        ids, ran, bought = self._spool.totals()
        again = dict(self._spool.bought_again(BOUGHT_AGAIN_SHOWN))
        jobs = dict(self._spool.jobs_bought_again(BOUGHT_AGAIN_SHOWN))
        creates: dict[str, int] = {}
        for batch in self._rows.rows.values():
            creates[batch.input_file_id] = creates.get(batch.input_file_id, 0) + 1
        return {
            "creates": len(self._rows.rows),
            "creates_by_file": creates,
            "lines": {
                "ids": ids,
                "ran": ran,
                "bought": bought,
                "bought_again": again,
                "jobs_bought_again": jobs,
            },
            "batches": [_entry(batch) for batch in self._rows.rows.values()],
        }

    def runs_by_job(self) -> dict[str, int]:
        """Job → how often a line of it was carried out."""
        return dict(self._spool.runs_by_job())


def _entry(batch: Batch) -> Json:
    done = batch.progress
    return {
        "id": batch.id,
        "input_file_id": batch.input_file_id,
        "status": batch.status,
        "metadata": batch.metadata,
        "total": batch.total,
        "bought": done.completed,
        "failed": done.failed,
    }

"""From the hashes in Redis to batches, counters and workers."""

from dataclasses import fields
from typing import Any

import orjson

from askmill.config.log_warning import log_warning
from askmill.jobs.model.expected import Expectation
from askmill.jobs.model.models import STATUS_OF_BYTE, BatchState, InputSpec
from askmill.jobs.model.profile import Profile, Resources
from askmill.jobs.store.codec import limits_of
from askmill.jobs.store.records import Batch
from askmill.jobs.store.views import Counts, WorkerInfo
from askmill.jobs.store.waits import LastFault


def _spec_of(stored: bytes) -> InputSpec:
    names = {field.name for field in fields(InputSpec)}
    values = {name: value for name, value in orjson.loads(stored).items() if name in names}
    return InputSpec(
        **{**values, "columns": tuple(values["columns"]), "overrides": tuple(values["overrides"])}
    )


def _last_fault_of(stored: str | None) -> LastFault | None:
    """Parse the batch's field; None where it is missing or is not ours."""
    if not stored:
        return None
    try:
        value = orjson.loads(stored)
        times = int(value["since_ms"]), int(value["at_ms"])
        return LastFault(str(value["words"]), str(value["request"]), int(value["count"]), *times)
    except (ValueError, LookupError, TypeError):
        return None


def batch_of(batch: str, stored: dict[bytes, bytes]) -> Batch:
    """Return the batch of a stored hash. Raises KeyError and ValueError where it is none."""
    text = {name.decode(): value.decode() for name, value in stored.items()}
    frozen: dict[str, Any] = {
        name: text[name]
        for name in ("name", "file", "api", "base_url", "model", "identity", "organization", "project")
    }
    times: dict[str, Any] = {
        f"{name}_ms": int(text[name]) if name in text else None
        for name in ("started_at", "finished_at", "paused_at", "paused_until")
    }
    return Batch(
        id=batch,
        rows=int(text["rows"]),
        spec=_spec_of(stored[b"spec"]),
        profile=Profile.model_validate_json(text["profile"]),
        resources=Resources.model_validate_json(text["resources"]),
        limits=limits_of(stored[b"limits"]),
        options=orjson.loads(text["options"]),
        state=BatchState(text["state"]),
        paused_reason=text.get("paused_reason"),
        accepted=text["accepted"] == "1",
        submitted_at_ms=int(text["submitted_at"]),
        idle_ms=int(text.get("idle_ms", 0)),
        last_fault=_last_fault_of(text.get("last_fault")),
        expected=Expectation(**orjson.loads(text["expected"])) if "expected" in text else None,
        **frozen,
        **times,
    )


def readable_batch(batch: str, stored: dict[bytes, bytes]) -> Batch | None:
    """Return the batch; None, and a line in the log, where another program has written under its name."""
    try:
        return batch_of(batch, stored)
    except (KeyError, ValueError):
        log_warning("batch.unreadable", batch=batch)
        return None


def worker_of(worker: str, stored: dict[bytes, bytes]) -> WorkerInfo:
    """Return the worker's description; fields of a later version are left out."""
    names = {field.name for field in fields(WorkerInfo)}
    text: dict[str, Any] = {
        name.decode(): value.decode() for name, value in stored.items() if name.decode() in names
    }
    numbers = {name: int(text[name]) for name in ("pid", "slots", "started_at_ms")}
    return WorkerInfo(id=worker, **{**text, **numbers})


def counts_of(stored: dict[bytes, bytes]) -> Counts:
    """Return the rows per status byte, and all other counters."""
    numbers = {name.decode(): int(value) for name, value in stored.items()}
    return Counts(
        {name: rows for name, rows in numbers.items() if name in STATUS_OF_BYTE},
        {name: number for name, number in numbers.items() if name not in STATUS_OF_BYTE},
    )

"""A batch and a claimed row of it, for unit tests of the worker."""

from typing import Any

from askmill.jobs.model.models import Attempt, BatchState, InputSpec, JobStatus, Limits, Result, Step
from askmill.jobs.model.profile import Profile, Resources
from askmill.jobs.store.claim_records import Claim
from askmill.jobs.store.records import Batch, BatchUpdate

COLUMNS = (
    "question",
    "who",
    "model",
    "max_completion_tokens",
    "temperature",
    "image",
    "file",
    "instructions",
)
OVERRIDES = COLUMNS[2:]
FAILED_ATTEMPT = Attempt(number=1, thread_id="thread_0", run_id="run_0", status="failed")
STEP = Step(run_id="run_0", attempt=1, type="message", status="completed")
EARLIER_RESULT = Result(1, JobStatus.FAILED, attempts=(FAILED_ATTEMPT,), steps=(STEP,))


def batch_of(profile: Profile | None = None, **changed: Any) -> Batch:
    """A running batch whose rows may override six settings."""
    spec = InputSpec(COLUMNS, "question", conversation_column="who", overrides=OVERRIDES)
    fields: dict[str, Any] = {
        "id": "b_1",
        "name": "",
        "file": "q.csv",
        "rows": 9,
        "spec": spec,
        "profile": profile or Profile(instructions="Be brief.", model="gpt-p"),
        "resources": Resources(),
        "api": "assistants",
        "base_url": "",
        "model": "gpt-x",
        "limits": Limits(),
        "identity": "",
        "options": {},
        "state": BatchState.RUNNING,
        "paused_reason": None,
        "accepted": True,
        "submitted_at_ms": 0,
        "started_at_ms": None,
        "finished_at_ms": None,
    }
    return Batch(**{**fields, **changed})


def claim_of(*cells: str, **changed: Any) -> Claim:
    """The claim of row 4 with these cells."""
    fields: dict[str, Any] = {
        "batch": "b_1",
        "row": 4,
        "worker": "w",
        "fence": "f",
        "cells": list(cells or ("What is 2 + 2?",)),
        "state": None,
        "previous_turn": None,
        "crashes": 0,
        "previous": None,
        "now_ms": 0,
        "update": BatchUpdate(BatchState.RUNNING, Limits()),
    }
    return Claim(**{**fields, **changed})

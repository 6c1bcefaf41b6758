"""A batch to submit, and the identity by which a later command finds it again."""

import dataclasses
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from askmill.jobs.intake import Intake, IntakeOptions
from askmill.jobs.model.api_target import Target
from askmill.jobs.model.expected import Expectation
from askmill.jobs.model.profile import Profile

Say = Callable[[str], None]


@dataclass(frozen=True)
class SubmitRequest:
    """A batch to submit, beside the file's content. `limits` has only those that were given."""

    intake: IntakeOptions
    profile: Profile
    target: Target
    limits: dict[str, Any] = field(default_factory=dict)
    name: str | None = None
    new: bool = False
    idempotency_key: str | None = None
    """Part of the identity: with another key, the same file is another batch."""
    reuse_answers: bool = False
    retention_days: float | None = None
    expected: Expectation | None = None
    """No part of the identity."""
    web: bool = False
    """Submitted through the web page, whose server keeps a worker alive for the batch."""


def identity_of(intake: Intake, request: SubmitRequest) -> str:
    """Return a hash of the file contents, what is read of them, the profile and the API.

    Options count by their resolved values, so giving a default explicitly changes nothing.
    """
    target = request.target
    paths = [*map(Path, request.profile.files), *intake.images.values(), *intake.files.values()]
    files = [content_sha256(path) for path in paths]
    parts: list[Any] = [
        intake.content_sha256,
        request.profile.sha256(),
        files,
        target.api,
        target.address,
        # A file's types are in its content. Without them the identity is that of earlier versions.
        {name: value for name, value in dataclasses.asdict(intake.spec).items() if name != "arrow_schema"},
        intake.dialect,
        request.intake.limit,
        intake.rejected,
    ]
    # Only where one is set, so that all other batches keep their identity; likewise the key.
    account = [target.organization, target.project]
    parts += [account] if any(account) else []
    parts += [{"idempotency_key": request.idempotency_key}] if request.idempotency_key else []
    parts += [intake.chosen_reading] if intake.chosen_reading else []
    return hashlib.sha256(orjson.dumps(parts, option=orjson.OPT_SORT_KEYS)).hexdigest()


def content_sha256(path: Path) -> str:
    """Return the hash of a file for the tools, or '' if it is missing; the upload reports that."""
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

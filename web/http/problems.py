"""Exceptions as problem details (RFC 9457), with the sentences of the command line."""

from dataclasses import dataclass, field
from typing import Any

import click
import orjson
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from askmill.config.settings import BadSetting
from askmill.config.text import safe_text
from askmill.jobs.model.errors import AskmillError, InputFaults, NotFound, Unavailable, UsageError

MEDIA_TYPE = "application/problem+json"


class Refused(Exception):
    """A request that is refused before it is carried out."""

    def __init__(self, status: int, title: str, detail: str) -> None:
        super().__init__(detail)
        self.status, self.title, self.detail = status, title, detail


@dataclass(frozen=True)
class Problem:
    """What went wrong: `status` of HTTP, a `title` of its kind, and a sentence with what to do next.

    `faults` are those of an input file: the first 20, of `total`.
    """

    status: int
    title: str
    detail: str
    faults: list[dict[str, Any]] = field(default_factory=list)
    total: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return the problem details."""
        details = {"type": "about:blank", "title": self.title, "status": self.status, "detail": self.detail}
        return {**details, "faults": self.faults, "total": self.total} if self.faults else details

    def response(self) -> Response:
        """Return the problem details as a response."""
        headers = {"WWW-Authenticate": "Bearer"} if self.status == 401 else None
        return Response(orjson.dumps(self.to_json()), self.status, headers, MEDIA_TYPE)


def problem_of(error: BaseException) -> Problem:
    """Return the problem that an exception stands for; an unexpected one is not shown."""
    match error:
        case Refused():
            return Problem(error.status, error.title, error.detail)
        case InputFaults():
            faults = [{"line": fault.line, "reason": safe_text(fault.reason)} for fault in error.faults]
            return Problem(422, "Faults in the file", safe_text(str(error)), faults, error.total)
        case NotFound():
            return Problem(404, "Not found", safe_text(str(error)))
        case UsageError():
            return Problem(422, "Cannot be done as asked", safe_text(str(error)))
        case Unavailable():
            return Problem(503, "Not available", safe_text(str(error)))
        case AskmillError() | BadSetting():
            return Problem(500, "Failed", safe_text(str(error)))
        case click.ClickException():
            return Problem(422, "Cannot be done as asked", safe_text(error.format_message()))
        case RequestValidationError():
            return Problem(422, "Cannot be done as asked", safe_text(_validation_text(error)))
        case HTTPException():
            # The detail of an unknown address is "Not Found" too.
            absent = ("Not found", "There is nothing at this address.")
            title, detail = absent if error.status_code == 404 else ("Refused", safe_text(str(error.detail)))
            return Problem(error.status_code, title, detail)
        case _:
            detail = "Something unexpected happened. The log of `askmill web` has the traceback."
            return Problem(500, "Unexpected error", detail)


def _validation_text(error: RequestValidationError) -> str:
    parts = []
    for fault in error.errors():
        name = ".".join(str(part) for part in fault["loc"][1:]) or "the request"
        parts.append(f"{name}: {fault['msg']}")
    return "; ".join(parts)

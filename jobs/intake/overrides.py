"""What a row may say for itself (`--override`): each value checked as the API would, local files found."""

import os
import re
from collections.abc import Callable
from pathlib import Path

from askmill.jobs.intake.render import LONGEST_TEXT
from askmill.jobs.model.file_rules import IMAGE_SUFFIXES, file_fault, image_fault

ValueFault = Callable[[str], str | None]
"""Why a value cannot be used; None if it can."""

LEAST_COMPLETION_TOKENS = 256
"""The API's own minimum (`CreateRunRequest.max_completion_tokens`)."""


class Overrides:
    """Checks the values of rows; blank is the profile's value. Remembers the local files that rows name.

    A relative path begins in the input file's folder; if there is nothing there, in the working folder.
    `images` and `files` lead from a path as written to the path found. `model_fault` has the last word on a
    model.
    """

    def __init__(self, folder: Path, model_fault: ValueFault | None = None) -> None:
        self._folders, self._model_fault = (folder, Path.cwd()), model_fault
        self.images: dict[str, Path] = {}
        self.files: dict[str, Path] = {}

    def fault(self, column: str, text: str) -> str | None:
        """Why this value cannot be used; None if it can."""
        value = text.strip()
        if not value:
            return None
        if column == "image":
            return self._image_fault(value)
        if column == "file":
            return self._local_fault("file", value, self.files)
        reason = VALUE_FAULTS[column](value)
        if column == "model" and reason is None and self._model_fault is not None:
            reason = self._model_fault(value)
        return None if reason is None else f"{column} {value[:40]!r} {reason}"

    def _image_fault(self, value: str) -> str | None:
        if value.startswith(("http://", "https://")):
            return None
        if not value.lower().endswith(IMAGE_SUFFIXES):
            return (
                f"image {value[:200]!r} is neither an http(s) address nor a png, jpg, jpeg, gif or webp file"
            )
        return self._local_fault("image", value, self.images)

    def _local_fault(self, column: str, value: str, found: dict[str, Path]) -> str | None:
        if value in found:
            return None
        for folder in self._folders:
            # os.path answers False where Path raises: names with NUL, names too long.
            if os.path.isfile(folder / value):  # noqa: PTH113
                return self._unfit(column, value, folder / value, found)
        return f"{column} {value[:200]!r} is not a file, neither beside the input nor in the working folder"

    def _unfit(self, column: str, value: str, path: Path, found: dict[str, Path]) -> str | None:
        """Why what was found cannot be sent; kept where it can."""
        reason = file_fault(path)
        if reason is None and column == "image" and (unfit := image_fault(path)):
            reason = f"image {value[:200]!r} {unfit}"
        if reason is None:
            found[value] = path
        return reason


def _model(value: str) -> str | None:
    return None if len(value) <= 256 else "is too long for a model's name"


def _instructions(value: str) -> str | None:
    return None if len(value) <= LONGEST_TEXT else f"are over the API's limit of {LONGEST_TEXT:,} characters"


def _temperature(value: str) -> str | None:
    try:
        return None if 0 <= float(value) <= 2 else "is not between 0 and 2"
    except ValueError:
        return "is not a number between 0 and 2"


def _max_completion_tokens(value: str) -> str | None:
    fits = re.fullmatch(r"[0-9]{1,12}", value) and int(value) >= LEAST_COMPLETION_TOKENS
    return None if fits else f"is not a whole number of at least {LEAST_COMPLETION_TOKENS}"


VALUE_FAULTS: dict[str, ValueFault] = {
    "model": _model,
    "instructions": _instructions,
    "max_completion_tokens": _max_completion_tokens,
    "temperature": _temperature,
}
KNOWN = (*VALUE_FAULTS, "image", "file")

"""Validates the values that rows override (`--override`) and finds the local files that they name."""

import os
import re
from collections.abc import Callable
from pathlib import Path

from askmill.jobs.intake.render import MAX_TEXT_CHARACTERS
from askmill.jobs.model.file_rules import IMAGE_SUFFIXES, file_fault, image_fault

ValueCheck = Callable[[str], str | None]
"""A function from a value to the reason why it is invalid; None if it is valid."""


class Overrides:
    """Validates the overrides of rows and collects the local files that rows name.

    A blank value means the profile's. A relative path is resolved in the input file's folder, then in the
    working folder. `images` and `files` map each path as written to the file found. `check_model` may reject
    a model. `confined`: only plain names of files in the input file's folder are valid.
    """

    def __init__(
        self,
        folder: Path,
        check_model: ValueCheck | None = None,
        min_completion_tokens: int = 256,
        *,
        confined: bool = False,
    ) -> None:
        self._folders = (folder,) if confined else (folder, Path.cwd())
        self._confined, self._check_model = confined, check_model
        self._min_completion_tokens = min_completion_tokens
        self.images: dict[str, Path] = {}
        self.files: dict[str, Path] = {}

    def fault(self, column: str, text: str) -> str | None:
        """Why the value is invalid; None if it is valid."""
        value = text.strip()
        if not value:
            return None
        if column == "image":
            return self._image_fault(value)
        if column == "file":
            return self._local_file_fault("file", value, self.files)
        if column == "max_completion_tokens":
            reason = _completion_limit_fault(value, self._min_completion_tokens)
        else:
            reason = VALUE_CHECKS[column](value)
        if column == "model" and reason is None and self._check_model is not None:
            reason = self._check_model(value)
        return None if reason is None else f"{column} {value[:40]!r} {reason}"

    def _image_fault(self, value: str) -> str | None:
        if value.startswith(("http://", "https://")):
            return None
        if not value.lower().endswith(IMAGE_SUFFIXES):
            return f"image {value[:200]!r} is neither an http(s) URL nor a png, jpg, jpeg, gif or webp file"
        return self._local_file_fault("image", value, self.images)

    def _local_file_fault(self, column: str, value: str, files: dict[str, Path]) -> str | None:
        if value in files:
            return None
        # Before the file system is asked: nobody may learn which other files exist.
        if self._confined and (value in {".", ".."} or re.search(r"[/\\\0]", value)):
            return f"{column} {value[:200]!r} is not the plain name of an uploaded file"
        for folder in self._folders:
            # os.path.isfile is False where Path.is_file raises: names with NUL, names that are too long.
            if os.path.isfile(folder / value):  # noqa: PTH113
                path = folder / value
                break
        else:
            place = (
                "among the uploads" if self._confined else "in the input's folder or in the working folder"
            )
            return f"{column} {value[:200]!r} is not a file {place}"
        reason = file_fault(path)
        if reason is None and column == "image" and (image_reason := image_fault(path)):
            reason = f"image {value[:200]!r} {image_reason}"
        if reason is None:
            files[value] = path
        return reason


def _model(value: str) -> str | None:
    return None if len(value) <= 256 else "is longer than 256 characters"


def _instructions(value: str) -> str | None:
    if len(value) <= MAX_TEXT_CHARACTERS:
        return None
    return f"is longer than the API's limit of {MAX_TEXT_CHARACTERS:,} characters"


def _temperature(value: str) -> str | None:
    try:
        return None if 0 <= float(value) <= 2 else "is not between 0 and 2"
    except ValueError:
        return "is not a number between 0 and 2"


def _completion_limit_fault(value: str, least: int) -> str | None:
    fits = re.fullmatch(r"[0-9]{1,12}", value) and int(value) >= least
    return None if fits else f"is not a whole number of at least {least}"


VALUE_CHECKS: dict[str, ValueCheck] = {
    "model": _model,
    "instructions": _instructions,
    "temperature": _temperature,
}
OVERRIDE_COLUMNS = ("model", "instructions", "max_completion_tokens", "temperature", "image", "file")

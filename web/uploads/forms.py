"""A form as the options of `submit`, by the command line's own parser, so that its sentences are the same.

Paths of this machine are refused: files come as uploads, each into a folder of its form. The files that tools
read lie in a folder named by their content, since their paths are part of a batch's identity.
"""

import hashlib
import os
import secrets
import shutil
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import orjson
from starlette.datastructures import UploadFile
from starlette.requests import Request

from askmill.jobs.local.data_dir import ensure_private_dir
from askmill.jobs.model.errors import ProfileError, UsageError
from askmill.jobs.model.schema_fields import is_short_form
from askmill.jobs.options.batch import batch_parser
from askmill.jobs.results.generated_files import safe_name
from askmill.web.http.problems import Refused

FILE, FILES, ATTACHMENTS = "file", "files", "attachments"
"""Fields with uploads: the input, files for the tools, files that rows name."""
UPLOADED_OPTIONS = ("profile", "response_schema")
"""Options whose file is uploaded."""
UNAVAILABLE = frozenset({"trust_env_file", "on_done"})
"""Options of the command line that a form does not have."""
MAX_FIELDS, MAX_FIELD_BYTES = 200, 2_000_000
TRUE, FALSE = frozenset({"true", "1", "on", "yes"}), frozenset({"false", "0", "off", "no", ""})
KEEP_FILES_S = 86_400.0
"""How long files for tools are kept after their last use; a batch uploads them when it is submitted."""


def form_options() -> list[click.Option]:
    """Return the options of `submit` that a form may have."""
    options = [parameter for parameter in batch_parser.params if isinstance(parameter, click.Option)]
    return [option for option in options if option.name not in UNAVAILABLE]


def field_name(option: click.Option) -> str:
    """Return an option's field: its long name with underscores, such as `question_column` or `budget`."""
    return max(option.opts, key=len).removeprefix("--").replace("-", "_")


@dataclass
class Form:
    """The fields of a form, and the uploads in `folder`. `file` is the input's plain name."""

    folder: Path
    fields: dict[str, list[str]]
    file: str = ""
    uploads: dict[str, list[str]] = field(default_factory=dict)
    """Plain names of the uploads by field."""

    @property
    def path(self) -> Path:
        return self.folder / self.file

    def discard(self) -> None:
        """Delete the uploads."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def without_paths(self, text: str) -> str:
        """The text of a message, with the names of uploads in place of their paths here."""
        return text.replace(f"{self.folder}{os.sep}", "")


async def read_form(request: Request, uploads: Path) -> Form:
    """Store a form with its input file in a new folder. Raises UsageError, Refused; nothing is left then."""
    form = Form(ensure_private_dir(uploads / secrets.token_hex(12)), {})
    try:
        await fill_form(form, request)
        _require_file(form)
    except BaseException:
        form.discard()
        raise
    return form


def _require_file(form: Form) -> None:
    if not form.file:
        raise UsageError("The form has no file. Send the input as the multipart field `file`.")


async def fill_form(form: Form, request: Request) -> None:
    """Replace the form's fields by those of the request, and add its uploads. Raises UsageError, Refused."""
    form.fields = {}
    try:
        await _fill(form, request)
    except OSError as fault:
        raise Refused(507, "No room", f"The upload cannot be stored: {fault.strerror or fault}.") from None


async def _fill(form: Form, request: Request) -> None:
    async with request.form(
        max_files=MAX_FIELDS, max_fields=MAX_FIELDS, max_part_size=MAX_FIELD_BYTES
    ) as data:
        for name, value in data.multi_items():
            if isinstance(value, str):
                form.fields.setdefault(name, []).append(value)
            elif value.filename:
                await _store(form, name, value)


async def _store(form: Form, name: str, upload: UploadFile) -> None:
    stored = safe_name(upload.filename or "")
    if name not in {FILE, FILES, ATTACHMENTS, *UPLOADED_OPTIONS}:
        raise UsageError(f"The field {name!r} takes no file. Files go to `file`, `files` and `attachments`.")
    if name not in {FILES, ATTACHMENTS}:
        for earlier in form.uploads.pop(name, ()):
            (form.folder / earlier).unlink()
    if (form.folder / stored).exists():
        raise UsageError(f"Two uploads have the name {stored!r}. Give each its own name.")
    with (form.folder / stored).open("xb") as target:
        while block := await upload.read(1 << 20):
            target.write(block)
    form.uploads.setdefault(name, []).append(stored)
    if name == FILE:
        form.file = stored


def option_values(form: Form, functions: Collection[str]) -> dict[str, Any]:
    """Return the form's options as click parses them. Raises UsageError and click's exceptions.

    Args:
        form: the fields and uploads.
        functions: the modules that a batch may name.
    """
    options = {name: option for option in form_options() for name in (field_name(option), str(option.name))}
    arguments = list[str]()
    for name, values in form.fields.items():
        key = name.removeprefix("--").replace("-", "_")
        if key not in options:
            names = ", ".join(sorted({field_name(option) for option in options.values()}))
            raise UsageError(f"There is no option {name[:80]!r}. The options are {names}.")
        filled = [value for value in values if value != ""]
        _refuse_paths(key, options[key], filled, functions)
        arguments += _arguments(options[key], filled, form)
    arguments += _uploaded_arguments(form)
    context = batch_parser.make_context("submit", [*arguments, "--", str(form.path)])
    return {name: value for name, value in context.params.items() if name != "file"}


def _refuse_paths(name: str, option: click.Option, values: Sequence[str], functions: Collection[str]) -> None:
    """Raise UsageError for what would name a file or run a program here."""
    if name == "functions" and any(value not in functions for value in values):
        allowed = ", ".join(sorted(functions)) or "none"
        raise UsageError(
            "functions: only modules that `askmill web --allow-functions` names may be used (here: "
            f"{allowed})."
        )
    if name == "match" and any(".py" in value or ":" in value for value in values):
        raise UsageError("match: a module of yours cannot be used here; use `askmill submit --match`.")
    is_path = isinstance(option.type, click.Path) or option.name == "files" or name in UPLOADED_OPTIONS
    if is_path and name != "functions" and values and not (name == "response_schema" and _is_schema(values)):
        raise UsageError(f"{name}: a path of the server is not taken; upload the file in this field.")


def _is_schema(values: Sequence[str]) -> bool:
    """Whether these are schemas as text: JSON, or the short form `name: type, …`."""
    return all(value.lstrip().startswith("{") or is_short_form(value) for value in values)


def _arguments(option: click.Option, values: Sequence[str], form: Form) -> Iterator[str]:
    flag = max(option.opts, key=len)
    for value in values:
        if not option.is_flag:
            yield f"{flag}={_stored_schema(value, form) if flag == '--response-schema' else value}"
        elif value.lower() in TRUE:
            yield flag
        elif value.lower() not in FALSE:
            raise UsageError(f"{field_name(option)} must be true or false (it is {value[:40]!r}).")


def _stored_schema(value: str, form: Form) -> str:
    """A JSON schema that came as text, as a file; the short form stays."""
    if not value.lstrip().startswith("{"):
        return value
    path = form.folder / "response-schema.json"
    path.write_text(value, encoding="utf-8")
    return str(path)


def _uploaded_arguments(form: Form) -> Iterator[str]:
    for name in UPLOADED_OPTIONS:
        for upload in form.uploads.get(name, ()):
            if name == "profile":
                _check_profile(form, upload)
            yield f"--{name.replace('_', '-')}={form.folder / upload}"
    if names := form.uploads.get(FILES):
        folder = _folder_of_content(form, names)
        yield from (f"--file={folder / name}" for name in names)


def _check_profile(form: Form, name: str) -> None:
    """Raise ProfileError if the uploaded profile names anything but uploads. The loader finds the rest."""
    import tomllib  # noqa: PLC0415 -- few forms have one

    with suppress(tomllib.TOMLDecodeError, UnicodeDecodeError):
        profile: Mapping[str, Any] = tomllib.loads((form.folder / name).read_text("utf-8"))
        if "functions" in profile:
            raise ProfileError(f"{name}: functions: cannot come with an upload.")
        if profile.get("files"):
            raise ProfileError(f"{name}: files: upload them in the field `files`, and leave them out here.")
        if isinstance(profile.get("response_schema"), str):
            raise ProfileError(
                f"{name}: response_schema: write it as a table, or upload it in its own field."
            )


def _folder_of_content(form: Form, names: Sequence[str]) -> Path:
    """Copy the files to a folder named by their names and content; delete folders that are long unused."""
    digest = hashlib.sha256()
    for name in sorted(names):
        content = hashlib.sha256((form.folder / name).read_bytes()).digest()
        digest.update(orjson.dumps(name) + content)
    files = ensure_private_dir(form.folder.parent.parent / "files")
    folder = files / digest.hexdigest()[:32]
    for other in files.iterdir():
        if other != folder and time.time() - other.stat().st_mtime > KEEP_FILES_S:
            shutil.rmtree(other, ignore_errors=True)
    if not folder.exists():
        prepared = ensure_private_dir(files / f".{form.folder.name}")
        for name in names:
            shutil.copyfile(form.folder / name, prepared / name)
        with suppress(OSError):  # another request has just made the same folder
            prepared.rename(folder)
    os.utime(folder)
    return folder

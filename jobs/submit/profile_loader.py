"""From a TOML file and options to a validated Profile: options override the file, defaults fill the rest.

Every fault names the file and the field, and all faults are reported together.
"""

import dataclasses
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import orjson
from pydantic import ValidationError

from askmill.config.text import did_you_mean
from askmill.jobs.model.api_target import Target
from askmill.jobs.model.errors import ProfileError
from askmill.jobs.model.file_rules import file_fault, image_fault, type_fault
from askmill.jobs.model.models import EMULATOR_MODEL, Api
from askmill.jobs.model.profile import Profile
from askmill.jobs.model.schema_fields import is_short_form, parse_fields
from askmill.jobs.model.tiers import service_tier_of
from askmill.jobs.openai_client.capabilities import FILE_TOOLS, UNREAD_FILES, unsupported
from askmill.jobs.openai_client.model_ends import end_notice

TUTOR = {
    "name": "Math Tutor",
    "instructions": "You are a personal math tutor. Write and run code to answer math questions.",
    "tools": ("code_interpreter",),
}
"""The assistant of OpenAI's Assistants quickstart, the default with `--offline`."""

CHAT_PROMISE = (
    "chat completions keep nothing, so a call whose answer is lost is made again as another attempt, and "
    "counted in unknown_creates; --on-unknown stop fails its row instead."
)
"""What differs from the other APIs, said at submit."""
FILE_SEARCH_PROMPT_TOKENS = 20_000
"""Below this, file_search has hardly room for its results (OpenAI's Assistants deep dive)."""


@dataclass(frozen=True)
class ProfileOptions:
    """The profile options of a command; None and () mean not given. Paths: from the working folder.

    `functions`: a module, or function objects of one module. `response_schema`: a path, or the schema itself.
    """

    assistant_id: str | None = None
    model: str | None = None
    instructions: str | None = None
    temperature: float | None = None
    top_p: float | None = None
    reasoning_effort: str | None = None
    tools: tuple[str, ...] = ()
    functions: str | tuple[Callable[..., Any], ...] | None = None
    files: tuple[str, ...] = ()
    max_prompt_tokens: int | None = None
    max_completion_tokens: int | None = None
    truncation: str | None = None
    response_schema: str | Path | dict[str, Any] | None = None
    tier: str | None = None
    """Becomes `service_tier`, by the API's name."""

    def set_fields(self) -> dict[str, Any]:
        """Return the fields of a profile that are set."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        values["service_tier"] = values.pop("tier")
        return {name: value for name, value in values.items() if value is not None and value != ()}


def build_profile(
    source: Path | Mapping[str, Any] | None,
    options: ProfileOptions,
    model: str,
    *,
    offline: bool,
    api: Api | None = "assistants",
) -> Profile:
    """Build a batch's profile from `source`, `options` and the defaults, of which `model` is one.

    `source` is a TOML file, or its fields; relative paths in fields start at the working folder. Without it
    and options it is the mathematics tutor offline, and a model without instructions
    otherwise. Offline the model is always the emulator's. Raises ProfileError naming source, field and
    allowed values.
    """
    faults = list[str]()
    if isinstance(source, Path):
        fields = _with_loaded_schema(_read(source), source.parent, faults)
    else:
        fields = _with_loaded_schema(dict(source or {}), Path(), faults)
    fields |= _with_loaded_schema(options.set_fields(), Path(), faults)
    if offline:
        without_tools = api == "chat" or fields.get("service_tier") == "batch"
        tutor = {**TUTOR, "tools": ()} if without_tools else TUTOR
        fields = (tutor if source is None else {}) | fields | {"model": EMULATOR_MODEL}
    if "assistant_id" not in fields:
        fields.setdefault("model", model)
    if isinstance(fields.get("files"), list | tuple):
        fields["files"] = tuple(file for path in fields["files"] for file in _files_in(path))
    _describe_functions(fields, faults)
    place = "the options" if source is None else str(source) if isinstance(source, Path) else "the profile"
    return _validate(fields, place, [*faults, *_unread_files(fields, api)])


def _read(file: Path) -> dict[str, Any]:
    try:
        fields = tomllib.loads(file.read_text("utf-8"))
    except OSError as error:
        raise ProfileError(f"{file}: {error.strerror or error}. Name a TOML file with --profile.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ProfileError(f"{file} is not TOML: {error}.") from None
    if isinstance(functions := fields.get("functions"), str) and functions.endswith(".py"):
        fields["functions"] = str(_relative_to(file, functions))
    if isinstance(fields.get("files"), list):
        fields["files"] = [str(_relative_to(file, str(path))) for path in fields["files"]]
    return fields


def _relative_to(file: Path, path: str) -> Path:
    """A path in a profile file is relative to that file."""
    return file.parent / Path(path).expanduser()


def _files_in(path: Any) -> list[Any]:
    """Return `path`, or the sorted files of a folder without hidden files and subfolders."""
    if not isinstance(path, str) or not Path(path).expanduser().is_dir():
        return [path]
    inside = sorted(Path(path).expanduser().iterdir())
    return [str(file) for file in inside if file.is_file() and not file.name.startswith(".")]


def _describe_functions(fields: dict[str, Any], faults: list[str]) -> None:
    """Replace the module in `functions` by the description of its functions; drop it on a fault."""
    given = fields.pop("functions", None)
    if given is None:
        return
    if not isinstance(given, str | tuple):
        faults.append("functions: must be the path or name of a Python module.")
        return
    from askmill.jobs.functions.registry import describe, describe_objects  # noqa: PLC0415 -- few batches

    try:
        fields["functions"] = describe(given) if isinstance(given, str) else describe_objects(given)
    except ProfileError as unfit:
        faults += str(unfit).splitlines()


def _with_loaded_schema(fields: dict[str, Any], folder: Path, faults: list[str]) -> dict[str, Any]:
    """Load a `response_schema` that is a path or in the short form; drop it on a fault. A table stays."""
    value = fields.get("response_schema")
    if not isinstance(value, str | Path):
        return fields
    try:
        return {**fields, "response_schema": _loaded_schema(value, folder)}
    except ValueError as error:
        faults.append(f"response_schema: {error}.")
    return {name: field for name, field in fields.items() if name != "response_schema"}


def _loaded_schema(value: str | Path, folder: Path) -> Any:
    """Return the schema of a file, or of the short form. Raises ValueError with the reason."""
    if isinstance(value, str) and is_short_form(value):
        return parse_fields(value)
    file = folder / Path(value).expanduser()
    try:
        return orjson.loads(file.read_bytes())
    except OSError as error:
        form = 'Name a JSON file, or write the fields: "sentiment: positive|negative, score: float"'
        raise ValueError(f"{file}: {error.strerror or error}. {form}") from None
    except orjson.JSONDecodeError as error:
        raise ValueError(f"{file} is not JSON: {error}") from None


def _validate(fields: Mapping[str, Any], place: str, earlier_faults: list[str]) -> Profile:
    """Return the profile. Raises ProfileError with `earlier_faults` and all others."""
    faults = [*earlier_faults, *_rule_faults(fields)]
    if fields.get("service_tier") == "standard":
        fields = {**fields, "service_tier": service_tier_of("standard")}
    try:
        profile = Profile.model_validate({**fields, "tools": _without_duplicates(fields.get("tools"))})
    except ValidationError as invalid:
        faults = [_fault(dict(error)) for error in invalid.errors()] + faults
    if faults:
        raise ProfileError("\n".join(f"{place}: {fault}" for fault in faults))
    return profile


def _without_duplicates(tools: Any) -> Any:
    """Count a tool that is named twice once."""
    return tuple(dict.fromkeys(tools)) if isinstance(tools, list | tuple) else tools or ()


def _fault(error: dict[str, Any]) -> str:
    field = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        hint = did_you_mean(str(error["loc"][-1]), Profile.model_fields)
        fields = ", ".join(sorted(Profile.model_fields))
        return f"{field}: there is no such field{hint or '.'} The fields are {fields}."
    if error["type"] == "string_pattern_mismatch":  # only `truncation` has one
        return f"{field}: must be auto, disabled or last_messages:N (it is {error['input']!r:.80})."
    return f"{field}: {error['msg'].removeprefix('Value error, ')} (it is {error['input']!r:.80})."


def _rule_faults(fields: Mapping[str, Any]) -> Iterator[str]:
    """Yield faults against rules that the field types do not express."""
    if isinstance(schema := fields.get("response_schema"), dict):
        yield from _schema_faults(schema)
    metadata = fields.get("metadata")
    if isinstance(metadata, dict) and len(metadata) > 13:
        yield "metadata: at most 13 pairs (the API takes 16, three are askmill's own)."
    yield from _file_faults(fields)
    if fields.get("tools") and fields.get("assistant_id"):
        return
    tools = fields.get("tools") or ()
    if fields.get("file_search") and "file_search" not in tools:
        yield "file_search: has options but is not among the tools; add it there."


def _unread_files(fields: Mapping[str, Any], api: Api | None) -> list[str]:
    """Files that no tool reads: chat completions send images themselves. An unknown API is asked later."""
    tools = {tool for tool in fields.get("tools") or () if isinstance(tool, str)}
    if api in {"chat", None} or not fields.get("files") or (tools and fields.get("assistant_id")):
        return []
    return [] if FILE_TOOLS & tools else [f"files: {UNREAD_FILES}."]


def _file_faults(fields: Mapping[str, Any]) -> Iterator[str]:
    tools = [tool for tool in fields.get("tools") or () if isinstance(tool, str)]
    for path in fields.get("files") or ():
        if isinstance(path, str) and (fault := file_fault(Path(path)) or type_fault(Path(path), tools)):
            yield f"files: {fault}"


def _schema_faults(schema: dict[str, Any]) -> Iterator[str]:
    from jsonschema import Draft202012Validator, SchemaError  # noqa: PLC0415 -- 100 ms that few batches need

    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        yield f"response_schema: is not a JSON schema: {error.message}."


def refuse_unsupported(
    profile: Profile, api: Api | None, overrides: Sequence[str] = (), found: str = ""
) -> None:
    """Raise ProfileError with each field and override that this API does not support, and the reason.

    An API that is not known yet (None) is checked when it is; `found` says then how it was found.
    """
    if api is None:
        return
    reasons = unsupported(profile, api)
    if api == "chat" and "file" in overrides:
        reasons.append("--override file: chat completions read no files, only images (--override image)")
    if api == "chat":
        faults = ((path, image_fault(Path(path))) for path in profile.files)
        reasons += [
            f"files: {path} {fault}; chat completions read images only" for path, fault in faults if fault
        ]
    if reasons:
        source, advice = found or f"the API is {api}", ""
        able = [other for other in get_args(Api) if not unsupported(profile, other)]
        if able and not found:
            advice = f"\nAn API that can: set ASKMILL_API={able[0]}."
        raise ProfileError("\n".join(f"profile: {reason} ({source})." for reason in reasons) + advice)


def warnings(profile: Profile, target: Target, *, batch: bool = True) -> list[str]:
    """Return warnings about values that are allowed but probably not intended; `batch`: of a batch's rows."""
    limit, end = profile.max_prompt_tokens, end_notice(profile.model, target.base_url)
    found = [] if end is None else [end]
    if batch and target.api == "chat" and not target.offline:
        found.append(CHAT_PROMISE)
    if "file_search" in profile.tools and limit is not None and limit < FILE_SEARCH_PROMPT_TOKENS:
        least = f"the API's documentation asks for {FILE_SEARCH_PROMPT_TOKENS} at least"
        found.append(f"max_prompt_tokens {limit} with file_search: {least}, or the answer may be cut.")
    return found


def profile_schema() -> dict[str, Any]:
    """Return the JSON schema of a profile *file*, for editors: paths where the stored profile has content."""
    schema = Profile.model_json_schema()
    fields = schema["properties"]
    for name, types in (("functions", "string"), ("response_schema", ["string", "object"])):
        fields[name] = {"type": types, "description": Profile.model_fields[name].description}
    fields["service_tier"]["anyOf"][0]["enum"].insert(0, "standard")
    for unused in ("Functions", "FunctionTool"):
        schema["$defs"].pop(unused, None)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "askmill profile"}


if __name__ == "__main__":
    # python -m askmill.jobs.submit.profile_loader > examples/profile.schema.json
    sys.stdout.buffer.write(
        orjson.dumps(profile_schema(), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    )

"""Finds the user's Python functions in a module, describes them to the model, and loads them in workers.

The client stores names, JSON schemas and the module's hash with the batch. A worker loads the module by the
same name and refuses it if the hash differs. The code itself is never stored in Redis.
"""

import hashlib
import importlib.util
import inspect
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any, get_type_hints

from pydantic import BaseModel, ConfigDict, PydanticUserError, ValidationError, create_model

from askmill.jobs.model.errors import ProfileError
from askmill.jobs.model.profile import Functions, FunctionTool


@dataclass(frozen=True)
class Function:
    """A function of the module: its description for the model, and the callable."""

    name: str
    description: str
    call: Callable[..., Any]
    arguments: type[BaseModel]

    def tool(self) -> FunctionTool:
        """The description and JSON schema for the API."""
        schema = self.arguments.model_json_schema()
        schema.pop("title", None)
        for property_schema in schema.get("properties", {}).values():
            property_schema.pop("title", None)
        return FunctionTool(name=self.name, description=self.description, parameters=schema)

    def parse_arguments(self, arguments_json: str) -> dict[str, Any]:
        """Validate the model's JSON arguments and convert them to the function's types. Raises ValueError."""
        try:
            parsed = self.arguments.model_validate_json(arguments_json or "{}")
        except ValidationError as invalid:
            raise ValueError("; ".join(_argument_fault(dict(error)) for error in invalid.errors())) from None
        return {name: getattr(parsed, name) for name in type(parsed).model_fields}


def _argument_fault(error: dict[str, Any]) -> str:
    location = ".".join(str(part) for part in error["loc"])
    return f"{location}: {error['msg']}" if location else str(error["msg"])


def describe(module: str) -> Functions:
    """The name, hash and function schemas of a module, as stored in the profile.

    `module` is a path (`tools/weather.py`) or a dotted name. Raises ProfileError with the reason for each
    function that cannot be described.
    """
    file = _find_file(module, None)
    functions = _public_functions(_import_file(file, module), module)
    return Functions(
        module=module, sha256=_sha256(file), tools=tuple(function.tool() for function in functions.values())
    )


def load(functions: Functions) -> dict[str, Function]:
    """Load the functions in a worker, by name.

    Raises ProfileError if no module with that name and hash exists here.
    """
    file = _find_file(functions.module, functions.sha256)
    with _LOAD_LOCK:
        return _load_cached(file, functions.sha256, functions.module)


_LOAD_LOCK = threading.Lock()


@lru_cache(maxsize=64)
def _load_cached(file: Path, sha256: str, module: str) -> dict[str, Function]:  # noqa: ARG001 -- part of the cache key
    """Import the module once per process, so that its state lasts from call to call."""
    return _public_functions(_import_file(file, module), module)


def _find_file(module: str, sha256: str | None) -> Path:
    """The module's file in the working folder or on the Python path, with the hash `sha256` if given.

    The module is loaded from its file, not imported by name: a user's `config.py` must not hide another.
    """
    candidates = [folder / name for folder in _search_folders() for name in _relative_paths(module)]
    files = [file for file in candidates if file.is_file()]
    if not files:
        raise ProfileError(
            f"functions: no module {module} in {Path.cwd()} or on the Python path. "
            "Name a .py file, or install the module where the workers run."
        )
    for file in files:
        if sha256 is None or _sha256(file) == sha256:
            return file
    raise ProfileError(
        f"functions: {files[0]} is not the module that was submitted (its content has changed). "
        "Bring the workers up to date, or submit again with --new."
    )


def _search_folders() -> list[Path]:
    return [Path.cwd(), *(Path(entry) for entry in sys.path if entry)]


def _relative_paths(module: str) -> list[Path]:
    if module.endswith(".py"):
        return [Path(module).expanduser(), Path(Path(module).name)]
    return [Path(*module.split(".")).with_suffix(".py"), Path(*module.split("."), "__init__.py")]


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _import_file(file: Path, module: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"askmill_functions_{file.stem}", file)
    if spec is None or spec.loader is None:
        raise ProfileError(f"functions: {file} is not a Python module.")
    imported = importlib.util.module_from_spec(spec)
    # String annotations and dataclasses look up their module by name.
    sys.modules[spec.name] = imported
    try:
        spec.loader.exec_module(imported)
    except (Exception, SystemExit) as error:
        raise ProfileError(
            f"functions: {module} cannot be imported: {type(error).__name__}: {error}"
        ) from error
    return imported


def _public_functions(module: ModuleType, name: str) -> dict[str, Function]:
    """The functions in `__all__`, else those defined in the module without a leading underscore."""
    public = getattr(module, "__all__", None) or [
        key
        for key, value in vars(module).items()
        if inspect.isfunction(value) and value.__module__ == module.__name__ and not key.startswith("_")
    ]
    faults: list[str] = []
    functions: dict[str, Function] = {}
    for key in public:
        try:
            functions[key] = _make_function(key, getattr(module, key))
        except (TypeError, NameError, PydanticUserError) as error:
            faults.append(f"functions: {name}: {key}: {str(error).splitlines()[0]}")
    if faults:
        raise ProfileError("\n".join(faults))
    if not functions:
        raise ProfileError(f"functions: {name} has no public function.")
    return functions


def _make_function(name: str, call: Callable[..., Any]) -> Function:
    """Describe one function. Raises TypeError if its parameters cannot be described."""
    hints = get_type_hints(call, include_extras=True)
    fields: dict[str, Any] = {}
    for parameter in inspect.signature(call).parameters.values():
        if parameter.kind in {parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY}:
            raise TypeError(f"parameter {parameter} cannot be passed by name; list the parameters")
        if parameter.name not in hints:
            raise TypeError(f"parameter {parameter.name} has no type hint")
        default = ... if parameter.default is parameter.empty else parameter.default
        fields[parameter.name] = (hints[parameter.name], default)
    arguments = create_model(name, __config__=ConfigDict(extra="forbid"), **fields)
    arguments.model_json_schema()  # fails here, not in a worker, for a type without a JSON schema
    return Function(name, inspect.getdoc(call) or "", call, arguments)

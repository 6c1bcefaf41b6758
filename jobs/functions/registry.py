"""The Python functions a model may call: found in a module, described by their type hints, loaded by workers.

The client reads names and schemas here and stores them with the module's hash; a worker loads the module by
the same name, refuses one whose hash differs, and calls it. The code itself never goes through Redis.
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
    """One function of the module: what the model is told of it, and how it is called."""

    name: str
    description: str
    call: Callable[..., Any]
    arguments: type[BaseModel]

    def tool(self) -> FunctionTool:
        """The words and the JSON schema that go to the API."""
        schema = self.arguments.model_json_schema()
        schema.pop("title", None)
        for described in schema.get("properties", {}).values():
            described.pop("title", None)
        return FunctionTool(name=self.name, description=self.description, parameters=schema)

    def parsed(self, arguments_json: str) -> dict[str, Any]:
        """What the model wrote, as the function's types. Raises ValueError naming what is wrong."""
        try:
            checked = self.arguments.model_validate_json(arguments_json or "{}")
        except ValidationError as invalid:
            raise ValueError("; ".join(_fault(dict(error)) for error in invalid.errors())) from None
        return {name: getattr(checked, name) for name in type(checked).model_fields}


def _fault(error: dict[str, Any]) -> str:
    place = ".".join(str(part) for part in error["loc"])
    return f"{place}: {error['msg']}" if place else str(error["msg"])


def describe(module: str) -> Functions:
    """What the profile stores of a module: name, hash and schemas.

    `module` is a path as the person wrote it (`tools/weather.py`) or a dotted name. Raises ProfileError with
    every function that cannot be offered, and why.
    """
    file = _found(module, None)
    functions = _functions(_imported(file, module), module)
    return Functions(
        module=module, sha256=_sha256(file), tools=tuple(function.tool() for function in functions.values())
    )


def load(functions: Functions) -> dict[str, Function]:
    """The functions by name, for a worker that is about to call them.

    Raises ProfileError when no module of that name here has the hash that was submitted.
    """
    file = _found(functions.module, functions.sha256)
    with _LOADING:
        return _loaded(file, functions.sha256, functions.module)


_LOADING = threading.Lock()


@lru_cache(maxsize=64)
def _loaded(file: Path, sha256: str, module: str) -> dict[str, Function]:  # noqa: ARG001 -- names the content
    """Imported once a process: what a module opens or remembers lasts from call to call."""
    return _functions(_imported(file, module), module)


def _found(module: str, sha256: str | None) -> Path:
    """The module's file: in the working folder first, then along the Python path.

    It is loaded from its file, never by its name alone: a user's `config.py` must not become ours.
    """
    candidates = [folder / name for folder in _folders() for name in _names(module)]
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


def _folders() -> list[Path]:
    return [Path.cwd(), *(Path(entry) for entry in sys.path if entry)]


def _names(module: str) -> list[Path]:
    if module.endswith(".py"):
        return [Path(module).expanduser(), Path(Path(module).name)]
    return [Path(*module.split(".")).with_suffix(".py"), Path(*module.split("."), "__init__.py")]


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _imported(file: Path, module: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"askmill_functions_{file.stem}", file)
    if spec is None or spec.loader is None:
        raise ProfileError(f"functions: {file} is not a Python module.")
    made = importlib.util.module_from_spec(spec)
    # Type hints written as text, and dataclasses, look their module up by name.
    sys.modules[spec.name] = made
    try:
        spec.loader.exec_module(made)
    except (Exception, SystemExit) as error:
        raise ProfileError(
            f"functions: {module} cannot be imported: {type(error).__name__}: {error}"
        ) from error
    return made


def _functions(module: ModuleType, name: str) -> dict[str, Function]:
    """The public functions: those of `__all__`, else those defined there without an underscore first."""
    public = getattr(module, "__all__", None) or [
        key
        for key, value in vars(module).items()
        if inspect.isfunction(value) and value.__module__ == module.__name__ and not key.startswith("_")
    ]
    faults: list[str] = []
    found: dict[str, Function] = {}
    for key in public:
        try:
            found[key] = _function(key, getattr(module, key))
        except (TypeError, NameError, PydanticUserError) as error:
            faults.append(f"functions: {name}: {key}: {str(error).splitlines()[0]}")
    if faults:
        raise ProfileError("\n".join(faults))
    if not found:
        raise ProfileError(f"functions: {name} has no public function.")
    return found


def _function(name: str, call: Callable[..., Any]) -> Function:
    """Raises TypeError saying what keeps the function from being offered to a model."""
    hints = get_type_hints(call, include_extras=True)
    fields: dict[str, Any] = {}
    for parameter in inspect.signature(call).parameters.values():
        if parameter.kind in {parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY}:
            raise TypeError(f"parameter {parameter} cannot be given by name; list the parameters")
        if parameter.name not in hints:
            raise TypeError(f"parameter {parameter.name} has no type hint")
        default = ... if parameter.default is parameter.empty else parameter.default
        fields[parameter.name] = (hints[parameter.name], default)
    arguments = create_model(name, __config__=ConfigDict(extra="forbid"), **fields)
    arguments.model_json_schema()  # a type without a JSON schema shows itself here, not at a worker
    return Function(name, inspect.getdoc(call) or "", call, arguments)

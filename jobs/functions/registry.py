"""Finds the user's Python functions in a module, describes them to the model, and loads them in workers.

The client stores names, JSON schemas and the module's hash with the batch, never the code. A worker loads the
modules that it was started with (`--allow-functions`), and no other: whoever can write into the Redis cannot
choose what a worker runs. It finds a batch's functions by the hash of the content that it has loaded.
"""

import hashlib
import importlib.util
import inspect
import sys
import sysconfig
from collections.abc import Callable, Sequence
from dataclasses import dataclass
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


_loaded: dict[str, dict[str, Function]] = {}
"""SHA-256 of a module's content → its functions."""


def describe(module: str) -> Functions:
    """The name, hash and function schemas of a module, as stored in the profile; this process may call them.

    `module` is a path (`tools/weather.py`) or a dotted name. Raises ProfileError with the reason for each
    function that cannot be described.
    """
    sha256 = allow(module)
    functions = _loaded[sha256].values()
    return Functions(module=module, sha256=sha256, tools=tuple(function.tool() for function in functions))


def describe_objects(functions: Sequence[Callable[..., Any]]) -> Functions:
    """What `describe` returns, for some functions of one module that is already imported.

    Nothing is imported again. A module of an installed package is named by its dotted name, any other by its
    path: relative if it is below the working folder. Raises ProfileError for a function that a worker could
    not import: of a notebook or an interactive session, or nested.
    """
    modules = {function.__module__: sys.modules.get(function.__module__) for function in functions}
    if len(modules) != 1:
        raise ProfileError(
            f"functions: they are of several modules ({', '.join(sorted(modules))}); put them into one."
        )
    (name, module), faults = *modules.items(), list[str]()
    source = getattr(module, "__file__", None)
    if module is None or source is None or not Path(source).is_file():
        raise ProfileError(
            f"functions: workers cannot import them from {name}. Put them into a module, such as tools.py, "
            "and import them from there."
        )
    tools = []
    for function in functions:
        key = function.__name__
        try:
            _require_public(module, key, function)
            tools.append(_make_function(key, function).tool())
        except (TypeError, NameError, PydanticUserError) as error:
            faults.append(f"functions: {key}: {str(error).splitlines()[0]}")
    if faults:
        raise ProfileError("\n".join(faults))
    file = Path(source).resolve()
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    return Functions(module=_module_for_workers(name, file), sha256=sha256, tools=tuple(tools))


def _require_public(module: ModuleType, key: str, function: Callable[..., Any]) -> None:
    """Raise TypeError if a worker that imports the module does not find the function under its name."""
    if key.startswith("_") or getattr(module, key, None) is not function:
        raise TypeError(f"it is not a public function of {module.__name__}, so workers cannot import it")
    if key not in getattr(module, "__all__", [key]):
        raise TypeError(f"it is not in {module.__name__}.__all__, so workers do not offer it")


def _module_for_workers(name: str, file: Path) -> str:
    """The module as a worker in this working folder finds it."""
    if any(file.is_relative_to(Path(sysconfig.get_path(key)).resolve()) for key in ("purelib", "platlib")):
        return name
    folder = Path.cwd().resolve()
    return str(file.relative_to(folder) if file.is_relative_to(folder) else file)


def allow(module: str) -> str:
    """Import a module so that this process may call its functions; returns the SHA-256 of its content.

    The same bytes are hashed and run: the file may change at any moment. Raises ProfileError.
    """
    file = _find_file(module)
    content = file.read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    if sha256 not in _loaded:
        _loaded[sha256] = _public_functions(_import_content(file, content, module), module)
    return sha256


def load_function(module: str, name: str) -> Callable[..., Any]:
    """Import a module and return one of its functions, for this process. Raises ProfileError."""
    file = _find_file(module)
    found = getattr(_import_content(file, file.read_bytes(), module), name, None)
    if not callable(found):
        raise ProfileError(f"functions: {module} has no function {name}.")
    return found  # type: ignore[no-any-return]  # callable


def load(functions: Functions) -> dict[str, Function]:
    """The functions by name. Raises ProfileError if this process may not call this module's content."""
    if functions.sha256 in _loaded:
        return _loaded[functions.sha256]
    raise ProfileError(
        f"functions: this worker may not call those of {functions.module} as it was submitted. Start it with "
        f"--allow-functions {functions.module}, and with the same content of that file."
    )


def _find_file(module: str) -> Path:
    """The module's file in the working folder or on the Python path.

    The module is loaded from its file, not imported by name: a user's `config.py` must not hide another.
    """
    candidates = [folder / name for folder in _search_folders() for name in _relative_paths(module)]
    for file in candidates:
        if file.is_file():
            return file
    raise ProfileError(
        f"functions: no module {module} in {Path.cwd()} or on the Python path. "
        "Name a .py file, or install the module where the workers run."
    )


def _search_folders() -> list[Path]:
    return [Path.cwd(), *(Path(entry) for entry in sys.path if entry)]


def _relative_paths(module: str) -> list[Path]:
    if module.endswith(".py"):
        return [Path(module).expanduser(), Path(Path(module).name)]
    return [Path(*module.split(".")).with_suffix(".py"), Path(*module.split("."), "__init__.py")]


def _import_content(file: Path, content: bytes, module: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"askmill_functions_{file.stem}", file)
    if spec is None or spec.loader is None:
        raise ProfileError(f"functions: {file} is not a Python module.")
    imported = importlib.util.module_from_spec(spec)
    # String annotations and dataclasses look up their module by name.
    sys.modules[spec.name] = imported
    try:
        exec(compile(content, file, "exec"), imported.__dict__)  # noqa: S102 -- the user's own module
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

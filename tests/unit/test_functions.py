"""User functions: schemas from type hints, loading by hash, calls with validated arguments."""

import importlib.util
import py_compile
from hashlib import sha256
from pathlib import Path
from py_compile import PycInvalidationMode

import pytest

from askmill.jobs.functions.registry import allow, describe, load
from askmill.jobs.model.errors import ProfileError
from askmill.jobs.model.profile import Functions

GOOD = '''
from dataclasses import dataclass
from typing import Literal

@dataclass
class Place:
    town: str
    country: str = "NO"

def weather(place: Place, unit: Literal["c", "f"] = "c") -> str:
    """The weather now."""
    return f"{place.town}:{unit}"

def _helper(x):
    return x
'''


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "tools" / "skies.py"
    file.parent.mkdir()
    file.write_text(GOOD, encoding="utf-8")
    return file


@pytest.mark.parametrize("name", ["tools/skies.py", "tools.skies"])
def test_the_public_functions_are_described(module: Path, name: str) -> None:
    """A path or a dotted name; only public functions; the docstring is the description."""
    functions = describe(name)

    (tool,) = functions.tools
    assert (functions.module, tool.name, tool.description) == (name, "weather", "The weather now.")
    assert tool.parameters["required"] == ["place"]
    assert tool.parameters["properties"]["unit"]["enum"] == ["c", "f"]
    assert tool.parameters["additionalProperties"] is False


def test_a_worker_loads_and_calls_them(module: Path) -> None:
    """The model's JSON arguments are converted to the function's types."""
    weather = load(describe("tools/skies.py"))["weather"]

    arguments = weather.parse_arguments('{"place": {"town": "Bergen"}, "unit": "f"}')

    assert weather.call(**arguments) == "Bergen:f"
    for wrong in ('{"place": 3}', '{"town": "x"}', "[1]", "{"):
        with pytest.raises(ValueError, match=r".+"):
            weather.parse_arguments(wrong)


def test_a_module_that_has_changed_is_refused(module: Path) -> None:
    """Content with another hash than the submitted one is not called; the message names the option."""
    functions = describe("tools/skies.py").model_copy(update={"sha256": "0" * 64})

    with pytest.raises(ProfileError, match=r"--allow-functions tools/skies\.py, and with the same content"):
        load(functions)


def test_d10_nothing_is_imported_that_is_not_allowed(module: Path) -> None:
    """A batch that names a module and its true hash: only `allow`, at the worker's start, imports it."""
    text = f"{GOOD}\nimport pathlib\npathlib.Path('imported').touch()\n"
    module.write_text(text, encoding="utf-8")
    functions = Functions(module="tools/skies.py", sha256=sha256(text.encode()).hexdigest(), tools=())
    with pytest.raises(ProfileError, match="allow-functions"):
        load(functions)
    assert not Path("imported").exists()

    assert allow("tools/skies.py") == functions.sha256
    assert set(load(functions)) == {"weather"}


def test_d10_the_content_that_was_hashed_is_run(module: Path) -> None:
    """A compiled file in `__pycache__` with other code is not used."""
    cached = Path(importlib.util.cache_from_source(str(module)))
    cached.parent.mkdir()
    module.write_text(GOOD.replace("place.town", "'planted'"), encoding="utf-8")
    py_compile.compile(str(module), str(cached), invalidation_mode=PycInvalidationMode.UNCHECKED_HASH)
    module.write_text(f"{GOOD}\n# another hash\n", encoding="utf-8")
    weather = load(describe("tools/skies.py"))["weather"]
    assert weather.call(**weather.parse_arguments('{"place": {"town": "Bergen"}}')) == "Bergen:c"


def test_a_missing_module_is_an_error(module: Path) -> None:
    """The message advises to install the module."""
    with pytest.raises(ProfileError, match="install"):
        allow("nowhere.py")


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("def f(x): ...", "type hint"),
        ("def f(*x: int): ...", "by name"),
        ("def f(x: int, /): ...", "by name"),
        ("def f(x: 'Unknown'): ...", "Unknown"),
        ("def f(x: object.__class__): ...", "f"),
        ("1/0", "ZeroDivisionError"),
        ("raise SystemExit('bye')", "SystemExit: bye"),
        ("x = 1", "no public function"),
    ],
)
def test_functions_that_cannot_be_described(module: Path, text: str, word: str) -> None:
    """Each fault is a ProfileError at submit with its reason, never a traceback."""
    module.write_text(text, encoding="utf-8")

    with pytest.raises(ProfileError, match=word):
        describe("tools/skies.py")

"""Pages, help, messages, docstrings and names use plain technical English: no words of a former private vocabulary."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from askmill.jobs.cli.root import MODULE_OF, askmill

ROOT = Path(__file__).parents[2]
PRIVATE_WORDS = re.compile(
    r"\b(told|said|hear(?:s|d)?|looks? at(?! images)|looked at|furnish\w*|hearts?|beats?|gives? back|given back|in doubt|mends?|"
    r"mended|buried|surplus|go(?:es|ing)? on with|want of|moods?|somebody|nobody|begun)\b",
    re.IGNORECASE,
)
"""Words that a user of the field's other tools would not expect in a message."""
PRIVATE_NAME_PART = re.compile(
    r"acts|asker|asks|beats?|begun|bury|buried|desk|doubt|fate|feeds|furnish(ed)?|hands|hear[ds]?|hearts?|keeper|"
    r"lasting|look(s|ed)?|mend(s|ed)?|moods?|narrow|nobody|ours|rooms|said|shelf|somebody|story|surplus|tale|talk|"
    r"taught|tells?|telling|theirs|told|wanted"
)
"""Words that no name of a module, class, function, argument or field has as a part."""
VAGUE_NAME = re.compile(r"_?(asked|given|gone|known|made|seen|whole)_?")
"""Words that say nothing as the only word of a name; `known_run_ids` says what it is."""
STANDARD_NAMES = {"tell"}
"""Methods that a stream has in Python's own words."""
SOURCES = (
    "askmill/*.py",
    "config/**/*.py",
    "jobs/**/*.py",
    "worker/**/*.py",
    "web/**/*.py",
    "emulator/**/*.py",
)
PAGES = (
    *sorted((ROOT / "docs").rglob("*.md")),
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
)
PACKAGES = ("askmill/*.py", "jobs/cli/*.py", "jobs/display/*.py", "jobs/run/*.py")
MESSAGE_CALLS = {"say", "echo", "confirm", "write", "Finding", "fail", "Text", "BadParameter"}


def _help_texts() -> Iterator[tuple[str, str]]:
    """The help of the root, of each command and of each of its options."""
    context = click.Context(askmill)
    yield "askmill --help", askmill.get_help(context)
    for name in MODULE_OF:
        command = askmill.get_command(context, name)
        assert command is not None
        yield f"askmill {name} --help", command.get_help(click.Context(command, info_name=name))


def _messages() -> Iterator[tuple[str, str]]:
    """Text literals of raised exceptions, of calls that print, and of the functions that build status texts."""
    for pattern in PACKAGES:
        for file in sorted(ROOT.glob(pattern)):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Raise) or (
                    isinstance(node, ast.Call) and _name(node) in MESSAGE_CALLS
                ):
                    yield from _literals(file, node)
    for file in sorted((ROOT / "jobs" / "display").glob("*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        yield from _literals(file, _without_docstrings(tree))


def _name(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def _without_docstrings(tree: ast.Module) -> ast.Module:
    """Drop every statement that is only a text."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            body = [one for one in node.body if not _is_text(one)]
            node.body = body or [ast.Pass()]
    return tree


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _literals(file: Path, tree: ast.AST) -> Iterator[tuple[str, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield f"{file.relative_to(ROOT)}:{node.lineno}", node.value


def _prose() -> Iterator[tuple[str, str]]:
    """Each line of a page, without its code."""
    for page in PAGES:
        text = re.sub(
            r"```.*?```", lambda block: "\n" * block[0].count("\n"), page.read_text("utf-8"), flags=re.DOTALL
        )
        for number, line in enumerate(re.sub(r"`[^`\n]*`", "", text).splitlines(), 1):
            yield f"{page.relative_to(ROOT)}:{number}", line


def _docstrings() -> Iterator[tuple[str, str]]:
    """The docstrings of modules, and of classes and functions that are public."""
    for file in sorted(path for pattern in SOURCES for path in ROOT.glob(pattern)):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Module) or (
                isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
                and not node.name.startswith("_")
            ):
                yield f"{file.relative_to(ROOT)}:{getattr(node, 'lineno', 1)}", ast.get_docstring(node) or ""


@pytest.mark.parametrize(
    "texts", [_help_texts, _messages, _prose, _docstrings], ids=lambda texts: texts.__name__[1:]
)
def test_user_visible_text_has_no_private_words(texts):
    """Each text is checked against the word list of the style guide; pages may say "nobody", messages may not."""
    plain = {"nobody", "somebody"} if texts in {_prose, _docstrings} else set()
    found = [
        (place, word[0], text)
        for place, text in texts()
        for word in PRIVATE_WORDS.finditer(text)
        if word[0].casefold() not in plain
    ]

    assert found == []


def _names() -> Iterator[tuple[str, str]]:
    """The names of the product's modules, classes, functions, arguments and annotated fields."""
    for file in sorted(path for pattern in SOURCES for path in ROOT.glob(pattern)):
        place = str(file.relative_to(ROOT))
        yield place, file.stem
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{place}:{node.lineno}", node.name
            elif isinstance(node, ast.arg):
                yield f"{place}:{node.lineno}", node.arg
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                yield f"{place}:{node.lineno}", node.target.id


def _is_private(name: str) -> bool:
    if name in STANDARD_NAMES:
        return False
    parts = re.findall(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])", name)
    return any(PRIVATE_NAME_PART.fullmatch(part.lower()) for part in parts) or bool(
        VAGUE_NAME.fullmatch(name)
    )


def test_names_have_no_private_words():
    """Modules, classes, functions, arguments and fields have standard names: a reader finds what they do by name."""
    assert [(place, name) for place, name in _names() if _is_private(name)] == []


@pytest.mark.parametrize("name", ["WorkerDesk", "heartsOfWorkers", "_keeper_of", "wanted", "TELL"])
def test_a_private_name_is_found(name: str):
    """In any case and as a part of a longer name; `heartbeat` and `known_run_ids` are standard names."""
    assert _is_private(name)
    assert not any(map(_is_private, ("heartbeat", "known_run_ids", "make_client")))


def test_the_checks_read_something():
    """The texts are really collected, so an empty list of findings means something."""
    assert len(list(_names())) > 3000
    assert len(list(_help_texts())) == len(MODULE_OF) + 1
    assert len(list(_messages())) > 200
    assert len(list(_prose())) > 4000
    assert len(list(_docstrings())) > 1000

"""Help texts and messages use plain technical English: no words of the project's former private vocabulary."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from askmill.jobs.cli.root import MODULE_OF, askmill

ROOT = Path(__file__).parents[2]
PRIVATE_WORDS = re.compile(
    r"\b(told|said|hear(?:s|d)?|looks? at|looked at|furnish\w*|hearts?|beats?|gives? back|given back|in doubt|mends?|"
    r"mended|buried|surplus|go(?:es|ing)? on with|want of|moods?|somebody|nobody|begun)\b",
    re.IGNORECASE,
)
"""Words that a user of the field's other tools would not expect in a message."""
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
    for name in ("status_text", "row_history", "html_report", "progress"):
        file = ROOT / "jobs" / "display" / f"{name}.py"
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


@pytest.mark.parametrize("texts", [_help_texts, _messages], ids=["help", "messages"])
def test_user_visible_text_has_no_private_words(texts):
    """Each text is checked against the word list of the style guide."""
    found = [
        (place, word[0], text) for place, text in texts() for word in [PRIVATE_WORDS.search(text)] if word
    ]

    assert found == []


def test_the_checks_read_something():
    """The texts are really collected, so an empty list of findings means something."""
    assert len(list(_help_texts())) == len(MODULE_OF) + 1
    assert len(list(_messages())) > 200

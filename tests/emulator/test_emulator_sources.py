"""Every text that the emulator refuses with has its source in docs/decisions/emulator.md, and none stands there in vain."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from askmill.emulator.protocol.errors import ACCOUNT

ROOT = Path(__file__).parents[2]
MESSAGE_AT = {"ApiError": 1, "_error": 1, "bad_field": 0, "line_fault": 1}
"""What makes a refusal, and which of its arguments is the text."""
VARIES = "…"


def refusals() -> Iterator[str]:
    """Each text written in the emulator's code, with `…` for what varies."""
    for file in sorted((ROOT / "emulator").rglob("*.py")):
        for function in ast.walk(ast.parse(file.read_text())):
            if isinstance(function, ast.FunctionDef):
                yield from _of(function)
    yield from (message.format(method=VARIES, path=VARIES) for _, _, message in ACCOUNT.values())


def _of(function: ast.FunctionDef) -> Iterator[str]:
    named = {
        target.id: node.value
        for node in ast.walk(function)
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for call in ast.walk(function):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in MESSAGE_AT:
            text = call.args[MESSAGE_AT[call.func.id]]
            yield from _text_of(named.get(text.id, text) if isinstance(text, ast.Name) else text)
    if function.name == "_limit_message":
        (returned,) = (node.value for node in function.body if isinstance(node, ast.Return))
        yield from _text_of(returned)


def _text_of(text: ast.expr | None) -> Iterator[str]:
    """The literal text; nothing for a variable that is only passed on."""
    if isinstance(text, ast.Constant):
        yield str(text.value)
    if isinstance(text, ast.JoinedStr):
        yield "".join(str(part.value) if isinstance(part, ast.Constant) else VARIES for part in text.values)


def sources() -> dict[str, str]:
    """The texts of the note's table → their rows."""
    note = (ROOT / "docs" / "decisions" / "emulator.md").read_text()
    rows = note.split("| refusal | status, code | seen in |")[1].split("\n\n")[0].splitlines()[2:]
    return {text: row for row in rows for text in re.findall(r"`([^`]+)`", row.split(" | ")[0])}


def covers(text: str, refusal: str) -> bool:
    """Whether the note's text is about this refusal."""
    pattern = ".*".join(map(re.escape, text.split(VARIES)))
    return re.fullmatch(pattern, refusal.replace("`", ""), re.DOTALL) is not None


def test_every_refusal_names_its_source() -> None:
    """Text, status and where it was seen: or that nobody has shown it yet."""
    known, message_texts = sources(), set(refusals())

    assert len(message_texts) > 40
    assert [one for one in message_texts if not any(covers(text, one) for text in known)] == []
    assert [text for text in known if not any(covers(text, one) for one in message_texts)] == []


def test_every_row_says_status_and_source() -> None:
    """Three columns, a number of HTTP or that it is about a batch's file, a report or an honest word."""
    for row in sources().values():
        _, _, status, seen = (part.strip() for part in row.rstrip("|").split("|"))
        assert re.match(r"[45]\d\d|batch ", status), row
        assert re.search(r"#\d+|community|weak|OpenAI", seen), row

"""The reference of the scenario file, from the classes that hold it; types and bounds are tried out."""

import ast
import inspect
import re
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

from markdown_table import table

from askmill.emulator.protocol.errors import ACCOUNT
from askmill.emulator.simulation.directives import VARIANTS
from askmill.emulator.simulation.scenario import SHARES, Scenario, ScenarioError, read_scenario

INTRODUCTIONS = {
    "latency": "How long runs take.",
    "outcomes": "How runs end whose question has no directive. Each key is an outcome, its value the share "
    "of the runs that end so; the rest complete. The shares add up to 1 at most.",
    "http": "What goes wrong on the wire, on `/v1`. The shares "
    f"({', '.join(f'`{name}`' for name in SHARES)}) add up to 1 at most.",
    "run": "What every run has.",
    "clock": "The server's clock.",
    "account": "The state of the account.",
    "chat": "How a server of chat completions behaves. The defaults are OpenAI's, without limits of slots "
    "or context. [Which servers behave so](../decisions/emulator.md#scenario-settings).",
    "batches": "How a server of batches (`--tier batch`) behaves. The defaults are OpenAI's, without "
    "waiting.",
    "tiers": "What becomes of `service_tier`. Lines of batches are not concerned.",
}
OUTCOMES = {
    "completed": "The run completes with an answer; the argument says with what kind of one.",
    "failed": "The run fails with this error code, and with this message if one is named. `partial`: half "
    "the answer is there.",
    "expired": "The run expires. `partial`: half the answer is there.",
    "cancelled": "Another client cancels the run. `partial`: half the answer is there.",
    "incomplete": "A limit or the content filter ends the run.",
    "requires_action": "The model calls functions: name, JSON, name, JSON. `rounds=3` behind it calls them "
    "three times.",
    "stuck": "The run goes on until it is cancelled or expires.",
    "unknown": "The run has this status, which no API documents, until it is cancelled.",
    "refused": "The run's create is refused for its content; no run is created.",
}


def scenario_lines() -> Iterator[str]:
    """Yield the lines of the page."""
    yield "A scenario is a TOML file that sets how the emulator behaves: `askmill emulator --scenario FILE`."
    yield "`PUT /emulator/scenario` with TOML as its body changes it while the server runs; an empty body"
    yield "ends all faults, and runs that have started keep their plan. All keys are optional. An unknown key"
    yield "and a value out of bounds are refused by name."
    yield ""
    yield "```toml"
    yield "[latency]"
    yield "median_s = 2.0"
    yield "sigma = 0.5"
    yield ""
    yield "[outcomes]"
    yield '"failed(server_error)" = 0.05'
    yield ""
    yield "[http]"
    yield "rate_429 = 0.1"
    yield "retry_after_s = 1"
    yield "```"
    yield ""
    for part in fields(Scenario):
        yield f"## [{part.name}]"
        yield ""
        yield INTRODUCTIONS[part.name]
        yield ""
        if part.name == "outcomes":
            rows = ((f"`{name}`", _arguments(name), OUTCOMES[name]) for name in VARIANTS)
            yield from table(("outcome", "arguments", "meaning"), rows)
        else:
            shape = part.default_factory
            assert isinstance(shape, type)
            yield from table(("key", "type and bounds", "default", "meaning"), _keys(part.name, shape))
        if part.name == "account":
            yield from _account_errors()
    yield "## Directives in a question"
    yield ""
    yield "`[emulate: OUTCOME, OUTCOME, …]` anywhere in a question sets one outcome per attempt; the last one"
    yield "repeats. The outcomes are those of `[outcomes]`. `after=SECONDS` behind an outcome is the duration"
    yield "of that run; as an item of its own, of all runs without one. A misspelt directive is refused with"
    yield "400 (`invalid_prompt`)."
    yield ""
    yield "    What is 6 * 7? [emulate: failed(server_error), completed after=2]"


def _keys(name: str, shape: type) -> Iterator[tuple[str, ...]]:
    meanings = _docstrings(shape)
    for field in fields(shape):
        yield f"`{field.name}`", _type(name, field.name), _shown(field.default), meanings[field.name]


def _docstrings(shape: type) -> dict[str, str]:
    """Return the text under each field of a dataclass."""
    body = ast.parse(inspect.getsource(shape)).body[0]
    assert isinstance(body, ast.ClassDef)
    return {
        field.target.id: " ".join(text.value.value.split())
        for field, text in zip(body.body, body.body[1:], strict=False)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant)
        if isinstance(text.value.value, str)
    }


def _shown(default: Any) -> str:
    match default:
        case None:
            return "unset"
        case bool():
            return f"`{str(default).lower()}`"
        case str():
            return f'`"{default}"`'
        case tuple():
            return "`[" + ", ".join(f'"{word}"' for word in default) + "]`"
        case _:
            return f"`{int(default) if default == int(default) else default}`"


def _type(name: str, key: str) -> str:
    """Return type and bounds of a key, as the reader of scenarios has them."""
    words = _refusal(name, key, '"no such word"')
    if "must be one of" in words:
        return "one of " + re.sub(
            r"'([^']*)'", r'`"\1"`', words.partition("must be one of ")[2].partition(", not ")[0]
        )
    if "is unknown; known: " in words:
        return "text, see below"
    if "a list" in words:
        taken = _refusal(name, key, '["no such word"]')
        listed = taken.partition("known: ")[2].split(", ") if "known: " in taken else ["text"]
        return "list of " + ", ".join(word if word == "text" else f"`{word}`" for word in listed)
    if not _refusal(name, key, "true"):
        return "true or false"
    number = "number" if not _refusal(name, key, "2.5") else "whole number"
    if _refusal(name, key, "2"):
        return "share, 0 to 1"
    return number if not _refusal(name, key, "-1") else f"{number}, at least 0"


def _refusal(name: str, key: str, value: str) -> str:
    others = "slots = 1\n" if key == "queue_max" else ""
    try:
        read_scenario(f"[{name}]\n{others}{key} = {value}\n")
    except ScenarioError as error:
        return str(error)
    return ""


def _arguments(name: str) -> str:
    taken = VARIANTS[name]
    if taken is None:
        return "function, JSON" if name == "requires_action" else "any word"
    return ", ".join(f"`{word}`" for word in taken) or "none"


def _account_errors() -> Iterator[str]:
    yield "Values of `error`, and the status with which requests are refused:"
    yield ""
    rows = ((f"`{name}`", str(status), text) for name, (status, _, text) in ACCOUNT.items())
    yield from table(("error", "status", "message"), rows)

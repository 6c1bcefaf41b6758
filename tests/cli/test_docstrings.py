"""The docstrings of the public API are complete: what goes in, what comes out, what may be raised."""

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import askmill
from askmill import aio

FUNCTIONS = ("cancel", "collect", "estimate", "retry", "run", "status", "submit")


def _public() -> Iterator[tuple[str, Callable[..., Any]]]:
    for name in FUNCTIONS:
        yield f"askmill.{name}", getattr(askmill, name)
        yield f"askmill.aio.{name}", getattr(aio, name)
    for owner in (askmill.Results, askmill.Row):
        for name, member in inspect.getmembers(owner, inspect.isfunction):
            if member.__module__.startswith("askmill") and not name.startswith("_"):
                yield f"askmill.{owner.__name__}.{name}", member


@pytest.mark.parametrize(("name", "function"), list(_public()), ids=[name for name, _ in _public()])
def test_a_docstring_names_arguments_results_and_errors(name: str, function: Callable[..., Any]) -> None:
    """Each argument is in `Args`, a result in `Returns`; a function that asks Redis or the API has `Raises`."""
    text = inspect.getdoc(function) or ""
    signature = inspect.signature(function)
    arguments = [parameter.name for parameter in signature.parameters.values() if parameter.name != "self"]

    assert text.partition("\n")[0].endswith("."), "the first line is a sentence"
    if text.endswith("which documents the arguments."):
        assert f"`{name.replace('aio.', '')}`" in text
        return
    for argument in arguments:
        assert f"{argument}:" in text or f"`{argument}`" in text, f"{name}: {argument}"
    if signature.return_annotation not in {None, "None", inspect.Signature.empty}:
        assert "Returns" in text or "Return" in text.partition("\n")[0], name
    if not isinstance(getattr(askmill, name.split(".")[1], None), type):
        assert "Raises" in text, name

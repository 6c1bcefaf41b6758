"""Results of a run: functions, steps, generated files, answers checked against a schema, the frozen profile."""

import json
from collections.abc import Iterator

import pytest

from tests.helpers.requests import StackUser
from tests.helpers.screens import ROOT
from tests.stack import Stack


@pytest.fixture(scope="module", params=["assistants", "responses"])
def user(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StackUser]:
    """One stack an API, with a worker; `examples` is linked into the working folder."""
    folder = tmp_path_factory.mktemp("stack")
    with Stack(folder, api=request.param) as stack:
        stack.worker()
        user = StackUser.of(stack, folder / "work")
        (user.cli.folder / "examples").symlink_to(ROOT / "examples")
        yield user


def test_function_calls_are_steps_and_shown_in_the_history(user: StackUser) -> None:
    """Name, arguments and output of each call are in the steps, and in `askmill show`."""
    (row,) = user.rows("examples/weather.csv", "--profile", "examples/weather.toml")

    calls = [step["details"] for step in row["steps"] if step["type"] == "function"]
    assert [call["name"] for call in calls] == ["get_current_temperature", "get_rain_probability"]
    assert calls[0]["output"] == "57 degrees Fahrenheit in San Francisco, CA"
    assert json.loads(calls[0]["arguments"]) == {"location": "San Francisco, CA"}
    history = user.cli.askmill("show", "1").stdout
    for text in (
        "Question",
        "Attempt 1: completed",
        "function, completed",
        calls[0]["output"],
        "Answer",
        "tokens in",
    ):
        assert text in history


def test_generated_files_are_written_byte_for_byte(user: StackUser) -> None:
    """Written to OUT.files/ROW/NAME and named in `files`; the frozen profile is written beside the results."""
    rows = user.rows("examples/made.csv", "--tool", "code_interpreter")

    (table,), (plot,) = (row["files"] for row in rows)
    assert (user.cli.folder / table["path"]).read_bytes().startswith(b"answer\r\n")
    assert (user.cli.folder / plot["path"]).read_bytes().startswith(b"\x89PNG")
    assert "sandbox:" not in rows[0]["answer"]
    steps = [step for step in rows[0]["steps"] if step["type"] == "code_interpreter"]
    assert steps[0]["details"]["code"]
    assert steps[0]["details"]["logs"]
    frozen = json.loads((user.cli.folder / "out.profile.json").read_text(encoding="utf-8"))
    assert frozen["profile"]["tools"] == ["code_interpreter"]
    assert frozen["api"] == user.stack.api


def test_an_answer_that_violates_its_schema_is_failed_and_kept(user: StackUser) -> None:
    """The answer is validated: the row is `completed` only when it matches the schema."""
    file = user.table(
        "forms.csv", ("question",), ("What is 1 + 1?",), ("What is 2 + 2? [emulate: completed(bad_json)]",)
    )

    valid, invalid = user.rows(file, "--response-schema", "examples/answer.schema.json", code=1)

    assert valid["status"] == "completed"
    assert set(json.loads(valid["answer"])) == {"answer", "certain"}
    assert (invalid["status"], invalid["error"].split(":")[0]) == ("failed", "schema")
    assert invalid["answer"]


def test_a_function_without_type_hints_is_refused(user: StackUser) -> None:
    """At submit, naming function and parameter."""
    user.cli.write("bare.py", "def lookup(name):", "    return name")
    refused = user.run(user.table("q.csv", ("question",), ("What?",)), "--functions", "bare.py")

    assert refused.returncode == 2
    assert "lookup" in refused.stderr
    assert "name has no type hint" in refused.stderr


def test_a_prompt_limit_too_small_for_file_search_gives_a_warning(user: StackUser) -> None:
    """`max_prompt_tokens` below 20,000 with file_search: a note; Responses has no such limit and refuses it."""
    user.cli.write("short.toml", 'tools = ["file_search"]', "max_prompt_tokens = 19999")
    done = user.cli.askmill(
        "estimate", user.table("q.csv", ("question",), ("What?",)), "--profile", "short.toml"
    )

    assert ("20000" if user.stack.api == "assistants" else "Assistants API only") in done.stderr

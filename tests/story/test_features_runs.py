"""What a run did, told and kept: functions, steps, generated files, answers of a given form, the frozen profile."""

import json
from collections.abc import Iterator

import pytest

from tests.helpers.requests import StackUser
from tests.helpers.screens import ROOT
from tests.stack import Stack


@pytest.fixture(scope="module", params=["assistants", "responses"])
def asker(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StackUser]:
    """One stack an API, with a worker; `examples` stands in the working folder."""
    folder = tmp_path_factory.mktemp("stack")
    with Stack(folder, api=request.param) as stack:
        stack.worker()
        asker = StackUser.of(stack, folder / "work")
        (asker.user.folder / "examples").symlink_to(ROOT / "examples")
        yield asker


def test_functions_are_steps_and_the_story_tells_them(asker: StackUser) -> None:
    """Name, arguments and output of each call are in the steps, and in `askmill show`."""
    (row,) = asker.rows("examples/weather.csv", "--profile", "examples/weather.toml")

    calls = [step["details"] for step in row["steps"] if step["type"] == "function"]
    assert [call["name"] for call in calls] == ["get_current_temperature", "get_rain_probability"]
    assert calls[0]["output"] == "57 degrees Fahrenheit in San Francisco, CA"
    assert json.loads(calls[0]["arguments"]) == {"location": "San Francisco, CA"}
    story = asker.user.askmill("show", "1").stdout
    for text in (
        "Question",
        "Attempt 1: completed",
        "function, completed",
        calls[0]["output"],
        "Answer",
        "tokens in",
    ):
        assert text in story


def test_generated_files_come_back_byte_for_byte(asker: StackUser) -> None:
    """Written to OUT.files/ROW/NAME and named in `files`; the frozen profile stands beside."""
    rows = asker.rows("examples/made.csv", "--tool", "code_interpreter")

    (first,), (drawn,) = (row["files"] for row in rows)
    there = asker.user.folder / first["path"]
    assert there.read_bytes().startswith(b"answer\r\n")
    assert (asker.user.folder / drawn["path"]).read_bytes().startswith(b"\x89PNG")
    assert "sandbox:" not in rows[0]["answer"]
    steps = [step for step in rows[0]["steps"] if step["type"] == "code_interpreter"]
    assert steps[0]["details"]["code"]
    assert steps[0]["details"]["logs"]
    frozen = json.loads((asker.user.folder / "out.profile.json").read_text(encoding="utf-8"))
    assert frozen["profile"]["tools"] == ["code_interpreter"]
    assert frozen["api"] == asker.stack.api


def test_an_answer_that_misses_its_schema_is_failed_and_kept(asker: StackUser) -> None:
    """Checked on return: `completed` only when it fits."""
    file = asker.table(
        "forms.csv", ("question",), ("What is 1 + 1?",), ("What is 2 + 2? [emulate: completed(bad_json)]",)
    )

    good, bad = asker.rows(file, "--response-schema", "examples/answer.schema.json", code=1)

    assert good["status"] == "completed"
    assert set(json.loads(good["answer"])) == {"answer", "certain"}
    assert (bad["status"], bad["error"].split(":")[0]) == ("failed", "schema")
    assert bad["answer"]


def test_a_function_without_type_hints_is_refused(asker: StackUser) -> None:
    """At submit, naming function and parameter."""
    asker.user.write("bare.py", "def lookup(name):", "    return name")
    refused = asker.run(asker.table("q.csv", ("question",), ("What?",)), "--functions", "bare.py")

    assert refused.returncode == 2
    assert "lookup" in refused.stderr
    assert "name has no type hint" in refused.stderr


def test_little_room_for_what_file_search_finds_is_warned_of(asker: StackUser) -> None:
    """max_prompt_tokens below 20,000 with file_search: a note; on Responses, which has no such limit, a refusal."""
    asker.user.write("short.toml", 'tools = ["file_search"]', "max_prompt_tokens = 19999")
    done = asker.user.askmill(
        "estimate", asker.table("q.csv", ("question",), ("What?",)), "--profile", "short.toml"
    )

    assert ("20000" if asker.stack.api == "assistants" else "Assistants API only") in done.stderr

"""Models with an announced end are named, with the date and what to do, before they are asked."""

import re
from pathlib import Path

import openai
import pytest

from askmill.config.settings import DEFAULT_MODEL, OPENAI_URL
from askmill.jobs.openai_client.model_ends import ENDS, end_notice, end_of
from tests.helpers.command_line import terminal

SOURCE = Path(openai.__file__).parent / "types" / "shared" / "chat_model.py"


def test_the_table_is_that_of_the_sdk() -> None:
    """Each model and date of the docstring of openai-python's ChatModel, and no other."""
    entries = re.split(r"\n- ", SOURCE.read_text(encoding="utf-8").split("Deprecated values:")[1])
    announced = {}
    for entry in (" ".join(text.split()) for text in entries):
        if found := re.search(r"Announced shutdown date: ([\d-]+)", entry):
            names = re.findall(r'"([^"]+)"', entry.partition(": Announced")[0])
            announced.update(dict.fromkeys(names, found[1].rstrip(".")))
    assert announced == {name: day for day, names in ENDS.items() for name in names.split()}
    assert end_of(DEFAULT_MODEL) is None, "the default must last"


@pytest.mark.parametrize(
    ("model", "base_url", "text"),
    [
        ("gpt-5-mini", OPENAI_URL, "2026-12-11"),
        ("gpt-4-32k", OPENAI_URL, "has switched the model gpt-4-32k off on 2025-06-06"),
        ("gpt-5-mini", "https://eu.api.openai.com/v1", "2026-12-11"),
        ("gpt-5-mini", "http://localhost:8000/v1", None),
        ("gpt-6-luna", OPENAI_URL, None),
        (None, OPENAI_URL, None),
    ],
)
def test_the_end_of_a_model_is_named_at_openai(model: str | None, base_url: str, text: str | None) -> None:
    """Another server may keep the model."""
    notice = end_notice(model, base_url)
    assert (notice is None) if text is None else text in (notice or "")


def test_submit_names_the_end(tmp_path: Path) -> None:
    """On stderr, with the id alone on stdout."""
    user = terminal(tmp_path).with_settings(OPENAI_API_KEY="k", ASKMILL_MODEL="gpt-5-mini")
    user.write("q.csv", "question", "What is 1 + 1?")
    done = user.askmill("submit", "q.csv")
    assert done.returncode == 0, done.stderr
    assert "the model gpt-5-mini off on 2026-12-11" in done.stderr
    assert done.stdout.strip().startswith("b_")


def test_doctor_names_the_end(tmp_path: Path) -> None:
    """Beside the other checks; the API is not reached, because the proxy does not answer."""
    user = terminal(tmp_path).with_settings(
        OPENAI_API_KEY="any", ASKMILL_MODEL="gpt-5-mini", HTTPS_PROXY="http://127.0.0.1:1"
    )
    assert "the model gpt-5-mini off on 2026-12-11" in user.askmill("doctor").stdout


def test_no_page_or_example_tells_people_to_use_a_model_that_ends() -> None:
    """A command is copied for years. Decisions and benchmarks record what was used on their day."""
    root = Path(__file__).parents[2]
    pages = [root / "README.md", *(root / "docs").glob("*.md")]
    pages += [page for folder in ("how-to", "reference") for page in (root / "docs" / folder).glob("*.md")]
    examples = [path for path in (root / "examples").rglob("*") if path.is_file()]
    named = {
        (path.name, model)
        for path in [*pages, *examples]
        if path.name not in {"benchmarks.md", "apis.md"}
        for model in re.findall(r"\b(?:gpt|o)-?\d[\w.-]*\w", path.read_text("utf-8", errors="replace"))
        if end_of(model) is not None
    }
    assert named == set()

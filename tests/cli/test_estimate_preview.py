"""`estimate` shows what is read of a file, without a key, a price or a good file; closed descriptors."""

import json
import os
import subprocess
import sys

import pytest
from click.testing import CliRunner

from askmill.jobs.cli.root import askmill


@pytest.fixture
def estimate(tmp_path, monkeypatch):
    """A function that runs `estimate` on a file with this content, in process and without any setting."""
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "ASKMILL_REDIS_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ASKMILL_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)

    def invoke(content, *options, name="questions.csv"):
        (tmp_path / name).write_bytes(content)
        return CliRunner().invoke(askmill, ["estimate", name, "--model", "nobody-knows-it", *options])

    return invoke


def test_preview(estimate):
    """Format, delimiter, encoding, columns with first values and the first three questions as asked."""
    content = "id;question;lang\n1;Größe?;de\n2;Why?;en\n3;How?;en\n4;Who?;en\n".encode()
    result = estimate(content, "--template", "{lang}: {question}")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[:8] == [
        "questions.csv: CSV, delimiter semicolon, encoding utf-8, 3 columns",
        "  id        1 · 2 · 3",
        "  question  Größe? · Why? · How?",
        "  lang      de · en · en",
        "First questions:",
        "  row 1: de: Größe?",
        "  row 2: en: Why?",
        "  row 3: en: How?",
    ]
    assert "The price of nobody-knows-it is unknown" in result.stdout


def test_preview_of_a_file_with_faults(estimate):
    """The columns are shown also if a row has a fault, or if no question column was found; exit code 2."""
    result = estimate("question,tag\nGröße?,a\nWhy?,b\n".encode("cp1252"))
    assert result.exit_code == 2
    assert "  row 1: (has a fault)\n  row 2: Why?\n" in result.stdout
    assert "cp1252 ('Größe?,a')" in result.stderr
    result = estimate(b"id,words\n1,Why?\n")
    assert result.exit_code == 2
    assert "  words  Why?" in result.stdout
    assert "First questions" not in result.stdout
    assert "--question-column" in result.stderr


def test_preview_as_json(estimate):
    """--json has the preview under `input`, and the faults of a bad file."""
    shown = json.loads(estimate(b'{"question":"Why?","n":1}\n', "--json", name="q.jsonl").stdout)
    assert shown["rows"] == 1
    assert shown["input"]["format"] == "jsonl"
    assert shown["input"]["columns"] == [
        {"name": "question", "first_values": ["Why?"]},
        {"name": "n", "first_values": ["1"]},
    ]
    assert shown["input"]["first_questions"] == ["Why?"]
    result = estimate("question\nGröße?\n\xa0\n".encode("cp1252"), "--json")
    assert result.exit_code == 2
    shown = json.loads(result.stdout)
    assert [fault["line"] for fault in shown["faults"]] == [2, 3]
    assert shown["fault_count"] == 2


def test_what_is_left_out(estimate):
    """Blank lines above a row and rejected rows are counted, in words and in JSON."""
    content = b'question,id\n\nWhy?,1\n,\n"",2\nHow?,3\n\n'
    words = estimate(content, "--skip-bad-rows").stdout
    assert (
        "2 blank lines are skipped; 1 of 3 rows has a fault and is not asked (status rejected). 2 rows to ask."
        in words
    )
    shown = json.loads(estimate(content, "--skip-bad-rows", "--json").stdout)
    assert (shown["rows"], shown["rejected"], shown["blank_lines"]) == (2, 1, 2)
    assert "skipped" not in estimate(b"question\nWhy?\n\n").stdout


def test_a_local_server(estimate, monkeypatch):
    """A model on this machine has no price, and needs none."""
    monkeypatch.setenv("OPENAI_BASE_URL", "http://localhost:11434/v1")
    shown = estimate(b"question\nWhy?\n").stdout
    assert (
        "The price of nobody-knows-it is unknown. If this local server costs anything, put its price" in shown
    )


def test_offline(estimate):
    """The tokens of the emulator's rows, and that they cost nothing; a pilot would say nothing about a model."""
    shown = estimate(b"question\nWhy?\n", "--offline")
    assert shown.exit_code == 0
    assert "1 row for askmill-emulator" in shown.stdout
    assert shown.stdout.endswith(
        "No cost: the offline emulator answers. Without --offline, name a model to see its cost.\n"
    )
    refused = estimate(b"question\nWhy?\n", "--offline", "--pilot", "1")
    assert refused.exit_code == 2
    assert "--pilot asks a model" in refused.stderr


def test_several_files(estimate):
    """Several files are refused with advice."""
    result = estimate(b"question\nWhy?\n", "more.csv")
    assert result.exit_code == 2
    assert 'for file in questions.csv more.csv; do askmill run "$file"; done' in result.stderr


def run_closed(*descriptors, arguments):
    """Start the program with these descriptors closed."""
    closing = "".join(f" {number}{'<' if number == 0 else '>'}&-" for number in descriptors)
    script = f'exec "$0" -P -m askmill "$@"{closing}'
    return subprocess.run(
        ["sh", "-c", script, sys.executable, *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "OPENAI_API_KEY": ""},
    )


def test_b11_closed_descriptors(tmp_path):
    """Case B11: closed stdin, stdout and stderr are the null device; `-` without stdin is exit code 2."""
    path = tmp_path / "questions.csv"
    path.write_text("question\nWhy?\n")
    no_stdin = run_closed(0, arguments=["estimate", "-"])
    assert (no_stdin.returncode, no_stdin.stdout) == (2, "")
    assert "stdin is empty or closed" in no_stdin.stderr
    assert run_closed(0, 1, 2, arguments=["estimate", str(path)]).returncode == 0

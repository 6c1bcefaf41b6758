"""Files, images and overrides of single rows: uploaded once, read by the right tool, validated before the upload. On both APIs."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.requests import StackUser
from tests.stack import Stack

PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 40
UPLOAD, STORE = "POST /files", "POST /vector_stores"
COUNT_FILES = 50


@pytest.fixture(scope="module", params=["assistants", "responses"])
def user(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StackUser]:
    """One stack an API, with a worker."""
    folder = tmp_path_factory.mktemp("stack")
    with Stack(folder, api=request.param) as stack:
        stack.worker()
        yield StackUser.of(stack, folder / "work")


def _library(folder: Path) -> None:
    """Fifty texts, each about one animal with its own name, home and tune."""
    (folder / "beasts").mkdir(exist_ok=True)
    for n in range(COUNT_FILES):
        text = f"The beast called grum{n:02} lives in hollow {n}.\n\nThe grum{n:02} sings tune number {7 * n + 3}.\n"
        (folder / "beasts" / f"beast-{n:02}.txt").write_text(text, encoding="utf-8")


def test_answers_cite_the_file_that_contains_them(user: StackUser) -> None:
    """Fifty files in a vector store: each answer's text is in the file that it cites; files are uploaded once."""
    _library(user.cli.folder)
    numbers = [0, 7, 23, 31, 49]
    questions = [(f"Which tune does the grum{n:02} sing?",) for n in numbers]
    file = user.table("beasts.csv", ("question",), *questions)
    before = user.requests(UPLOAD), user.requests(STORE)

    rows = user.rows(file, "--tool", "file_search", "--file", "beasts")

    for row, n in zip(rows, numbers, strict=True):
        assert row["status"] == "completed", row
        assert f"tune number {7 * n + 3}" in row["answer"]
        assert row["citations"][0]["filename"] == f"beast-{n:02}.txt", row["citations"]
        assert "【" not in row["answer"]
        assert f"beast-{n:02}.txt" in row["answer"], "the footnote names the file"
        (search,) = [step for step in row["steps"] if step["type"] == "file_search"]
        best = search["details"]["results"][0]
        assert best["filename"] == f"beast-{n:02}.txt"
        assert f"{7 * n + 3}" in best["text"], "the results of the search are included"
    assert user.requests(UPLOAD) - before[0] == COUNT_FILES
    assert user.requests(STORE) - before[1] == 1

    again = user.table("more.csv", ("question",), ("In which hollow lives the beast called grum11?",))
    (row,) = user.rows(again, "--tool", "file_search", "--file", "beasts")

    assert "hollow 11" in row["answer"]
    assert user.requests(UPLOAD) - before[0] == COUNT_FILES, "another batch uploads nothing"
    assert user.requests(STORE) - before[1] == 1
    if user.stack.api == "assistants":
        assert user.requests("POST /assistants") == 1, "no second assistant for the same profile"


def test_a_deleted_vector_store_is_created_again(user: StackUser) -> None:
    """Files and stores that the API no longer has are uploaded and indexed once more."""
    user.cli.write("one.txt", "The wicket opens at nine.")
    cells = ("When does the wicket open?",)
    (first,) = user.rows(
        user.table("one.csv", ("question",), cells), "--tool", "file_search", "--file", "one.txt"
    )
    batch = user.cli.batches()[0]
    assert user.cli.askmill("purge", batch).returncode == 0

    (second,) = user.rows(
        user.table("one.csv", ("question",), cells), "--tool", "file_search", "--file", "one.txt"
    )

    assert "nine" in first["answer"]
    assert "nine" in second["answer"]
    assert first["thread_id"] != second["thread_id"]


def test_files_of_the_code_interpreter_and_of_rows(user: StackUser) -> None:
    """`--file` goes to the tool that reads it; a row's own file is uploaded once for all rows that name it."""
    user.cli.write("table.csv.data", "x")
    user.cli.write("numbers.csv", "a,b", "1,2")
    user.cli.write("notes.txt", "The lamp was lit by Marfa.")
    user.cli.write("other.txt", "The door was shut by Oleg.")
    header = ("question", "file")
    file = user.table(
        "own.csv",
        header,
        ("Who lit the lamp?", "notes.txt"),
        ("Who shut the door?", "other.txt"),
        ("Lamp?", "notes.txt"),
        ("What is 1 + 1?", ""),
    )
    before = user.requests(UPLOAD)
    options = ["--override", "file", "--tool", "code_interpreter", "--file", "numbers.csv"]

    done = user.run(file, *options)

    assert done.returncode == 0, done.stderr
    assert "Uploading notes.txt" in done.stderr
    assert "of 3" in done.stderr
    assert user.requests(UPLOAD) - before == 3
    rows = user.results()
    assert {row["status"] for row in rows} == {"completed"}
    if user.stack.api == "assistants":
        listed = user.get(f"threads/{rows[0]['thread_id']}/messages")["data"]
        (attached,) = listed[-1]["attachments"]
        assert attached["tools"] == [{"type": "code_interpreter"}]
        assert user.get(f"files/{attached['file_id']}")["filename"] == "notes.txt"


def test_a_rows_file_is_searched(user: StackUser) -> None:
    """On Assistants a file attached to the question is found by file_search; the answer cites it."""
    if user.stack.api == "responses":
        pytest.skip("a response is given the file itself, as input_file")
    user.cli.write("keys.txt", "The brass key hangs behind the clock.")
    file = user.table("keys.csv", ("question", "file"), ("Where hangs the brass key?", "keys.txt"))

    (row,) = user.rows(file, "--override", "file", "--tool", "file_search")

    assert "behind the clock" in row["answer"]
    assert row["citations"][0]["filename"] == "keys.txt"


def test_images_by_address_and_by_file(user: StackUser) -> None:
    """A URL is sent unchanged; a local image is uploaded once with purpose `vision`; detail is the profile's."""
    (user.cli.folder / "dot.png").write_bytes(PNG)
    user.cli.write("seeing.toml", 'image_detail = "low"')
    cells = [
        ("What is it?", "dot.png"),
        ("And this?", "https://example.com/cat.png"),
        ("Again?", "dot.png"),
        ("None?", ""),
    ]
    before = user.requests(UPLOAD)

    rows = user.rows(
        user.table("seen.csv", ("question", "image"), *cells),
        "--override",
        "image",
        "--profile",
        "seeing.toml",
    )

    assert {row["status"] for row in rows} == {"completed"}
    assert user.requests(UPLOAD) - before == 1
    first, second = (_image_part(user, row["thread_id"]) for row in rows[:2])
    assert first["detail"] == second["detail"] == "low"
    uploaded = user.get(f"files/{first['file_id']}")
    assert (uploaded["purpose"], uploaded["filename"]) == ("vision", "dot.png")
    assert second.get("url", second.get("image_url")) == "https://example.com/cat.png"
    assert _image_part(user, rows[3]["thread_id"]) == {}


def _image_part(user: StackUser, thread_id: str) -> dict[str, str]:
    """The image of the question on a thread, in either API's format."""
    if user.stack.api == "assistants":
        message = user.get(f"threads/{thread_id}/messages", order="asc")["data"][0]
        parts = [part for part in message["content"] if part["type"].startswith("image")]
        return dict(parts[0][parts[0]["type"]]) if parts else {}
    item = user.get(f"conversations/{thread_id}/items", order="asc")["data"][0]
    return next((dict(part) for part in item["content"] if part["type"] == "input_image"), {})


def test_an_image_that_is_a_file_too(user: StackUser) -> None:
    """One file as an image of the message and as input of the code interpreter: two uploads, two purposes."""
    (user.cli.folder / "plot.png").write_bytes(PNG + b"plot")
    file = user.table("both.csv", ("question", "image", "file"), ("What is it?", "plot.png", "plot.png"))
    before = user.requests(UPLOAD)

    (row,) = user.rows(file, "--override", "image", "--override", "file", "--tool", "code_interpreter")

    assert row["status"] == "completed"
    assert user.requests(UPLOAD) - before == 2
    image = _image_part(user, row["thread_id"])
    assert user.get(f"files/{image['file_id']}")["purpose"] == "vision"


def test_rows_override_model_instructions_and_numbers(user: StackUser) -> None:
    """--override: the run has the row's value; a blank cell means the profile's."""
    header = ("question", "model", "instructions", "max_completion_tokens", "temperature")
    file = user.table(
        "own.csv",
        header,
        ("What is 1 + 1?", "gpt-5", "Be brief.", "300", "0.5"),
        ("What is 1 + 2?", "", "", "", ""),
        ("What is 1 + 3?", "no-such-model", "", "", ""),
    )
    options = [word for name in header[1:] for word in ("--override", name)]

    rows = user.rows(file, *options, "--instructions", "Be kind.", "--tool", "code_interpreter", code=1)

    assert [row["status"] for row in rows] == ["completed", "completed", "failed"]
    assert "model_not_found" in rows[2]["error"], "an unknown model of one row fails that row only"
    first, second = (_run(user, row) for row in rows[:2])
    limit = "max_completion_tokens" if user.stack.api == "assistants" else "max_output_tokens"
    assert (first["model"], first["instructions"], first[limit], first["temperature"]) == (
        "gpt-5",
        "Be brief.",
        300,
        0.5,
    )
    assert (second["model"], second["instructions"], second[limit]) == ("gpt-6-luna", "Be kind.", None)


def _run(user: StackUser, row: dict[str, str]) -> dict[str, object]:
    if user.stack.api == "assistants":
        return user.get(f"threads/{row['thread_id']}/runs/{row['run_id']}")
    return user.get(f"responses/{row['run_id']}")


def test_all_unusable_files_are_named_before_any_upload(user: StackUser) -> None:
    """Missing, empty, unreadable by the tools: each is named, exit 2, nothing is uploaded or stored."""
    user.cli.write("fine.txt", "Fine.")
    (user.cli.folder / "empty.txt").touch()
    user.cli.write("song.mp3", "la")
    before, batches = user.requests(UPLOAD), user.cli.batches()
    files = [word for name in ("fine.txt", "empty.txt", "song.mp3", "gone.txt") for word in ("--file", name)]
    question = user.table("bad.csv", ("question",), ("What?",))

    refused = user.run(question, "--tool", "file_search", *files)

    assert refused.returncode == 2
    for name in ("empty.txt", "song.mp3", "gone.txt"):
        assert name in refused.stderr
    assert "Traceback" not in refused.stderr
    (user.cli.folder / "fake.png").write_bytes(b"not a picture")
    rows = user.table(
        "bad-rows.csv", ("question", "image"), ("a", "fake.png"), ("b", "gone.png"), ("c", "x.bmp")
    )
    refused = user.run(rows, "--override", "image")
    assert refused.returncode == 2
    for line in ("line 2", "line 3", "line 4"):
        assert line in refused.stderr
    assert user.requests(UPLOAD) == before
    assert user.cli.batches() == batches


def test_more_than_twenty_files_of_the_code_interpreter_are_refused(user: StackUser) -> None:
    """The message has the API's limit and the number of files; nothing is uploaded."""
    (user.cli.folder / "many").mkdir(exist_ok=True)
    for n in range(21):
        user.cli.write(f"many/{n}.csv", "a", str(n))
    before = user.requests(UPLOAD)

    refused = user.run(
        user.table("q.csv", ("question",), ("What?",)), "--tool", "code_interpreter", "--file", "many"
    )

    assert refused.returncode == 2
    assert "20 files, not 21" in refused.stderr
    assert user.requests(UPLOAD) == before

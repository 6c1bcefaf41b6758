"""Results of the hosted tools, through the command line: web pages, citations, generated files."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.requests import StackUser
from tests.stack import Stack


@pytest.fixture(scope="module", params=["assistants", "responses"])
def user(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StackUser]:
    """One stack an API, with a worker."""
    folder = tmp_path_factory.mktemp("stack")
    with Stack(folder, api=request.param) as stack:
        stack.worker()
        yield StackUser.of(stack, folder / "work")


def test_web_pages_are_footnotes(user: StackUser) -> None:
    """Responses: cited in the text, listed with title and address; the step has the query and the sources."""
    file = user.table("web.csv", ("question",), ("Who won? [emulate: completed(web_search)]",))
    if user.stack.api == "assistants":
        refused = user.run(file, "--tool", "web_search")
        assert refused.returncode == 2
        assert "web_search" in refused.stderr
        return

    (row,) = user.rows(file, "--tool", "web_search")

    assert row["answer"].endswith("[1]\n\n[1] Example https://example.org/")
    assert row["citations"] == [{"index": 1, "url": "https://example.org/", "title": "Example"}]
    (search,) = [step["details"] for step in row["steps"] if step["type"] == "web_search"]
    assert search["queries"] == ["Who won?"]
    assert search["results"] == [{"type": "url", "url": "https://example.org/"}]
    history = user.cli.askmill("show", "1").stdout
    assert "web search, completed" in history
    assert "https://example.org/" in history


def test_citations_are_at_their_positions(user: StackUser) -> None:
    """Two sources, each cited twice, between multi-byte characters; adjacent and overlapping spans."""
    user.cli.write("größe.txt", "The tower of the castle is tall.")
    user.cli.write("alter.txt", "The castle is old.")
    question = "How tall is the tower of the castle? [emulate: completed(citations)]"
    file = user.table("places.csv", ("question",), (question,))

    (row,) = user.rows(file, "--tool", "file_search", "--file", "größe.txt", "--file", "alter.txt")

    assert row["answer"] == (
        "Grüße, 🐇[1]![2] From größe.txt: The tower of the castle is tall.[1][2]\n\n"
        "[1] größe.txt\n[2] alter.txt"
    )
    assert [citation["filename"] for citation in row["citations"]] == ["größe.txt", "alter.txt"]


def test_files_that_the_answer_does_not_name_are_kept(user: StackUser) -> None:
    """A file that the code left in its container is downloaded, written and shown too."""
    questions = ("What is 2^10? [emulate: completed(left_file)]", "What is 2 + 2?")
    file = user.table("left.csv", ("question",), *((question,) for question in questions))

    with_file, without_file = user.rows(file, "--tool", "code_interpreter")

    (generated,) = with_file["files"]
    assert generated["name"] == "answer.csv"
    assert generated["path"] == "out.files/1/answer.csv"
    assert (user.cli.folder / generated["path"]).read_bytes() == b'answer\r\n"2^10 = 1024."\r\n'
    assert "answer.csv" not in with_file["answer"]
    assert without_file["files"] == []
    assert "answer.csv" in user.cli.askmill("show", "1").stdout


def test_the_download_of_a_generated_file_is_retried(user: StackUser) -> None:
    """500, 429 and lost replies of the content endpoint only: repeated until the file is complete."""
    kind = "files" if user.stack.api == "assistants" else "containers"
    user.stack.scenario(
        "[http]\nrate_500 = 0.2\nrate_429 = 0.1\nretry_after_s = 0.1\ndrop_before = 0.1\n"
        f'only = ["GET /{kind}/*"]\n'
    )
    cells = [(f"What is {n} + 1? [emulate: completed(file)]",) for n in range(8)]
    try:
        rows = user.rows(user.table("trouble.csv", ("question",), *cells), "--tool", "code_interpreter")
    finally:
        user.stack.scenario("")

    for row in rows:
        (generated,) = row["files"]
        assert (user.cli.folder / generated["path"]).read_bytes().startswith(b"answer")


def test_a_cited_generated_file_is_written_once(user: StackUser) -> None:
    """Named in the answer and found in the container: one file."""
    file = user.table("once.csv", ("question",), ("What is 2^10? [emulate: completed(file)]",))

    (row,) = user.rows(file, "--tool", "code_interpreter")

    assert [generated["name"] for generated in row["files"]] == ["answer.csv"]


def test_files_that_cannot_be_searched_are_named_with_the_reason(user: StackUser) -> None:
    """The vector store's error for each of them; exit 2, no batch, and no vector store left behind."""
    user.cli.write("fine.txt", "The gate is green.")
    (user.cli.folder / "garbled.txt").write_bytes(b"\xff\x00\xfe\xfd\x80")
    (user.cli.folder / "paper.pdf").write_bytes(b"this is no PDF")
    file = user.table("q.csv", ("question",), ("What colour is the gate?",))
    batches, stores = user.cli.batches(), len(user.get("vector_stores")["data"])
    options = [word for name in ("fine.txt", "garbled.txt", "paper.pdf") for word in ("--file", name)]

    refused = user.cli.askmill("submit", file, "--tool", "file_search", *options)

    assert refused.returncode == 2
    assert refused.stdout == ""
    assert "The API cannot search 2 of 3 files:" in refused.stderr
    for name in ("garbled.txt", "paper.pdf"):
        assert (
            f"{name}: invalid_file: The file could not be parsed because it is not valid." in refused.stderr
        )
    assert "fine.txt: " not in refused.stderr
    assert user.cli.batches() == batches
    assert len(user.get("vector_stores")["data"]) == stores
    (row,) = user.rows(file, "--tool", "file_search", "--file", "fine.txt")
    assert "green" in row["answer"]


@pytest.mark.parametrize("detail", ["high", "auto"])
def test_image_detail(user: StackUser, detail: str) -> None:
    """`image_detail` is sent for uploaded images and for addresses."""
    (user.cli.folder / "dot.png").write_bytes(b"\x89PNG\r\n\x1a\n" + detail.encode())
    profile = user.cli.write(f"{detail}.toml", f'image_detail = "{detail}"')
    cells = [("What?", "dot.png"), ("And?", "https://example.com/cat.png")]
    file = user.table(f"{detail}.csv", ("question", "image"), *cells)

    rows = user.rows(file, "--override", "image", "--profile", profile)

    for row in rows:
        kind, parts = (
            ("messages", "threads") if user.stack.api == "assistants" else ("items", "conversations")
        )
        first = user.get(f"{parts}/{row['thread_id']}/{kind}", order="asc")["data"][0]
        image = next(part for part in first["content"] if "image" in part["type"])
        inside = image[image["type"]] if user.stack.api == "assistants" else image
        assert inside["detail"] == detail


def test_an_image_for_the_code_interpreter(user: StackUser) -> None:
    """A row's image file is uploaded for the tool and attached to the message, or put into the container."""
    image = Path(user.cli.folder) / "plot.png"
    image.write_bytes(b"\x89PNG\r\n\x1a\nplot")
    file = user.table("plot.csv", ("question", "file"), ("What is 1 + 1?", "plot.png"))

    (row,) = user.rows(file, "--override", "file", "--tool", "code_interpreter")

    assert row["status"] == "completed"
    if user.stack.api == "assistants":
        (first,) = [
            message
            for message in user.get(f"threads/{row['thread_id']}/messages")["data"]
            if message["role"] == "user"
        ]
        (attached,) = first["attachments"]
        assert attached["tools"] == [{"type": "code_interpreter"}]
        file_id = attached["file_id"]
    else:
        (tool,) = user.get(f"responses/{row['run_id']}")["tools"]
        (file_id,) = tool["container"]["file_ids"]
    uploaded = user.get(f"files/{file_id}")
    assert (uploaded["filename"], uploaded["purpose"]) == (
        "plot.png",
        "assistants" if user.stack.api == "assistants" else "user_data",
    )

"""What the tools found and made, through the command line: web pages, awkward citations, files nobody named."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.requests import StackUser
from tests.stack import Stack


@pytest.fixture(scope="module", params=["assistants", "responses"])
def asker(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StackUser]:
    """One stack an API, with a worker."""
    folder = tmp_path_factory.mktemp("stack")
    with Stack(folder, api=request.param) as stack:
        stack.worker()
        yield StackUser.of(stack, folder / "work")


def test_pages_of_the_web_are_footnotes(asker: StackUser) -> None:
    """Responses: cited behind the words, listed with title and address; the step tells query and sources."""
    file = asker.table("web.csv", ("question",), ("Who won? [emulate: completed(web_search)]",))
    if asker.stack.api == "assistants":
        refused = asker.run(file, "--tool", "web_search")
        assert refused.returncode == 2
        assert "web_search" in refused.stderr
        return

    (row,) = asker.rows(file, "--tool", "web_search")

    assert row["answer"].endswith("[1]\n\n[1] Example https://example.org/")
    assert row["citations"] == [{"index": 1, "url": "https://example.org/", "title": "Example"}]
    (search,) = [step["details"] for step in row["steps"] if step["type"] == "web_search"]
    assert search["queries"] == ["Who won?"]
    assert search["results"] == [{"type": "url", "url": "https://example.org/"}]
    story = asker.user.askmill("show", "1").stdout
    assert "web search, completed" in story
    assert "https://example.org/" in story


def test_citations_stand_in_their_places(asker: StackUser) -> None:
    """Two sources, each cited twice, between letters of several bytes; side by side, and spans that overlap."""
    asker.user.write("größe.txt", "The tower of the castle is tall.")
    asker.user.write("alter.txt", "The castle is old.")
    question = "How tall is the tower of the castle? [emulate: completed(citations)]"
    file = asker.table("places.csv", ("question",), (question,))

    (row,) = asker.rows(file, "--tool", "file_search", "--file", "größe.txt", "--file", "alter.txt")

    assert row["answer"] == (
        "Grüße, 🐇[1]![2] From größe.txt: The tower of the castle is tall.[1][2]\n\n"
        "[1] größe.txt\n[2] alter.txt"
    )
    assert [cited["filename"] for cited in row["citations"]] == ["größe.txt", "alter.txt"]


def test_files_that_the_answer_does_not_name_are_kept(asker: StackUser) -> None:
    """Left where the code ran, without a word: fetched and written all the same, and shown."""
    questions = ("What is 2^10? [emulate: completed(left_file)]", "What is 2 + 2?")
    file = asker.table("left.csv", ("question",), *((question,) for question in questions))

    left, none = asker.rows(file, "--tool", "code_interpreter")

    (generated,) = left["files"]
    assert generated["name"] == "answer.csv"
    assert generated["path"] == "out.files/1/answer.csv"
    assert (asker.user.folder / generated["path"]).read_bytes() == b'answer\r\n"2^10 = 1024."\r\n'
    assert "answer.csv" not in left["answer"]
    assert none["files"] == []
    assert "answer.csv" in asker.user.askmill("show", "1").stdout


def test_a_made_file_is_fetched_through_trouble(asker: StackUser) -> None:
    """500, 429 and lost replies on the content only: asked for again until it is there."""
    kind = "files" if asker.stack.api == "assistants" else "containers"
    asker.stack.scenario(
        "[http]\nrate_500 = 0.2\nrate_429 = 0.1\nretry_after_s = 0.1\ndrop_before = 0.1\n"
        f'only = ["GET /{kind}/*"]\n'
    )
    cells = [(f"What is {n} + 1? [emulate: completed(file)]",) for n in range(8)]
    try:
        rows = asker.rows(asker.table("trouble.csv", ("question",), *cells), "--tool", "code_interpreter")
    finally:
        asker.stack.scenario("")

    for row in rows:
        (generated,) = row["files"]
        assert (asker.user.folder / generated["path"]).read_bytes().startswith(b"answer")


def test_a_named_file_is_not_kept_twice(asker: StackUser) -> None:
    """Named in the answer and found where the code ran: one file."""
    file = asker.table("once.csv", ("question",), ("What is 2^10? [emulate: completed(file)]",))

    (row,) = asker.rows(file, "--tool", "code_interpreter")

    assert [generated["name"] for generated in row["files"]] == ["answer.csv"]


def test_files_that_cannot_be_searched_are_named_with_the_reason(asker: StackUser) -> None:
    """The vector store's own words for each of them; exit 2, no batch, and no store left behind."""
    asker.user.write("fine.txt", "The gate is green.")
    (asker.user.folder / "garbled.txt").write_bytes(b"\xff\x00\xfe\xfd\x80")
    (asker.user.folder / "paper.pdf").write_bytes(b"this is no PDF")
    file = asker.table("q.csv", ("question",), ("What colour is the gate?",))
    batches, stores = asker.user.askmill("list").stdout, len(asker.get("vector_stores")["data"])
    options = [word for name in ("fine.txt", "garbled.txt", "paper.pdf") for word in ("--file", name)]

    refused = asker.user.askmill("submit", file, "--tool", "file_search", *options)

    assert refused.returncode == 2
    assert refused.stdout == ""
    assert "The API cannot search 2 of 3 files:" in refused.stderr
    for name in ("garbled.txt", "paper.pdf"):
        assert (
            f"{name}: invalid_file: The file could not be parsed because it is not valid." in refused.stderr
        )
    assert "fine.txt: " not in refused.stderr
    assert asker.user.askmill("list").stdout == batches
    assert len(asker.get("vector_stores")["data"]) == stores
    (row,) = asker.rows(file, "--tool", "file_search", "--file", "fine.txt")
    assert "green" in row["answer"]


@pytest.mark.parametrize("detail", ["high", "auto"])
def test_the_fidelity_of_images(asker: StackUser, detail: str) -> None:
    """image_detail goes along with uploaded images and with addresses."""
    (asker.user.folder / "dot.png").write_bytes(b"\x89PNG\r\n\x1a\n" + detail.encode())
    profile = asker.user.write(f"{detail}.toml", f'image_detail = "{detail}"')
    cells = [("What?", "dot.png"), ("And?", "https://example.com/cat.png")]
    file = asker.table(f"{detail}.csv", ("question", "image"), *cells)

    rows = asker.rows(file, "--override", "image", "--profile", profile)

    for row in rows:
        kind, parts = (
            ("messages", "threads") if asker.stack.api == "assistants" else ("items", "conversations")
        )
        first = asker.get(f"{parts}/{row['thread_id']}/{kind}", order="asc")["data"][0]
        image = next(part for part in first["content"] if "image" in part["type"])
        inside = image[image["type"]] if asker.stack.api == "assistants" else image
        assert inside["detail"] == detail


def test_a_picture_for_the_code_interpreter(asker: StackUser) -> None:
    """As a row's file it is attached for the tool, or lies in its container; it is uploaded for the tools."""
    picture = Path(asker.user.folder) / "plot.png"
    picture.write_bytes(b"\x89PNG\r\n\x1a\nplot")
    file = asker.table("plot.csv", ("question", "file"), ("What is 1 + 1?", "plot.png"))

    (row,) = asker.rows(file, "--override", "file", "--tool", "code_interpreter")

    assert row["status"] == "completed"
    if asker.stack.api == "assistants":
        (first,) = [
            message
            for message in asker.get(f"threads/{row['thread_id']}/messages")["data"]
            if message["role"] == "user"
        ]
        (attached,) = first["attachments"]
        assert attached["tools"] == [{"type": "code_interpreter"}]
        file_id = attached["file_id"]
    else:
        (tool,) = asker.get(f"responses/{row['run_id']}")["tools"]
        (file_id,) = tool["container"]["file_ids"]
    uploaded = asker.get(f"files/{file_id}")
    assert (uploaded["filename"], uploaded["purpose"]) == (
        "plot.png",
        "assistants" if asker.stack.api == "assistants" else "user_data",
    )

"""What a run wrote becomes one text with footnotes: markers go, sources are numbered, no text is lost."""

from hypothesis import given
from hypothesis import strategies as st

from askmill.worker.backends.answer_builder import finished
from askmill.worker.backends.assistants_parse import draft_of as thread_draft
from askmill.worker.backends.footnotes import MARKER, Footnotes, Mark, Source
from askmill.worker.backends.responses_parse import draft_of as items_draft

NAMES = {"file-1": "alice.txt", "file-2": "looking-glass.txt"}


def message(text, *annotations, **more):
    part = {"type": "text", "text": {"value": text, "annotations": list(annotations)}}
    return {"id": "msg_1", "role": "assistant", "content": [part], **more}


def cited(text, marker, file_id, start=None, **inner):
    """An annotation as the Assistants API writes it; `start` as it says, right or wrong."""
    at = text.index(marker) if start is None else start
    return {
        "type": "file_citation",
        "text": marker,
        "start_index": at,
        "end_index": at + len(marker),
        "file_citation": {"file_id": file_id, **inner},
    }


def item(text, *annotations):
    part = {"type": "output_text", "text": text, "annotations": list(annotations)}
    return {"type": "message", "id": "msg_1", "role": "assistant", "content": [part]}


def of_thread(*messages, footnotes=True):
    return finished(thread_draft(list(messages)), NAMES, footnotes=footnotes)[0]


def of_items(*items):
    return finished(items_draft(items), NAMES, footnotes=True)[0]


def test_a_citation_becomes_a_footnote():
    """The marker goes, `[1]` stands there, and the end names the file."""
    text = "She fell【4:0†alice.txt】 down."
    answer = of_thread(message(text, cited(text, "【4:0†alice.txt】", "file-1", quote="down the hole")))
    assert answer.text == "She fell[1] down.\n\n[1] alice.txt"
    assert answer.citations == (
        {"index": 1, "file_id": "file-1", "filename": "alice.txt", "quote": "down the hole"},
    )


def test_a_source_has_one_number_over_all_messages():
    """The same file cited again, in another message too, keeps its number; numbers follow the text."""
    first = "A【4:1†b】 and B【4:0†a】."
    second = "C【5:0†a】."
    answer = of_thread(
        message(first, cited(first, "【4:0†a】", "file-1"), cited(first, "【4:1†b】", "file-2")),
        message(second, cited(second, "【5:0†a】", "file-1")),
    )
    assert answer.text == "A[1] and B[2].\n\nC[2].\n\n[1] looking-glass.txt\n[2] alice.txt"


def test_positions_that_are_wrong_are_not_believed():
    """Counted in UTF-16 units or bytes, the marked text is found all the same, the nearest first."""
    text = "🐇🐇 erst【4:0†a】, dann【4:0†a】."
    second = text.rindex("【")
    answer = of_thread(
        message(
            text,
            cited(text, "【4:0†a】", "file-2", start=second + 4),
            cited(text, "【4:0†a】", "file-1", start=7),
        )
    )
    assert answer.text.startswith("🐇🐇 erst[1], dann[2].")
    assert [citation["file_id"] for citation in answer.citations] == ["file-1", "file-2"]


def test_a_marker_that_is_repeated_is_replaced_everywhere():
    """One annotation, two markers of the same text."""
    text = "A【4:0†a】 B【4:0†a】."
    assert of_thread(message(text, cited(text, "【4:0†a】", "file-1"))).text.startswith("A[1] B[1].")


def test_a_marker_without_annotation_goes():
    """The API is known to leave some; nobody can follow them."""
    assert of_thread(message("It is so 【4:0†source】.")).text == "It is so."


def test_a_citation_whose_place_is_unknown_is_listed():
    """The marked text is not there: the footnote is, the text untouched."""
    answer = of_thread(message("Nothing marked.", cited("x【9】", "【9】", "file-1")))
    assert answer.text == "Nothing marked.\n\n[1] alice.txt"


def test_overlapping_annotations_cut_no_text_twice():
    """Spans that overlap are replaced together."""
    text = "Said 【4:0†a】 here."
    whole = cited(text, "【4:0†a】", "file-1")
    part = {**cited(text, "0†a】", "file-2")}
    assert of_thread(message(text, whole, part)).text.startswith("Said [1][2] here.")


def test_json_stays_json():
    """With a response schema markers go and nothing is added; the citations are still told."""
    text = '{"answer": "fell【4:0†a】"}'
    answer = of_thread(message(text, cited(text, "【4:0†a】", "file-1")), footnotes=False)
    assert answer.text == '{"answer": "fell"}'
    assert answer.citations[0]["filename"] == "alice.txt"


def test_a_generated_file_is_named_in_place():
    """The sandbox's path means nothing to a reader: its name stands there, and the file is listed."""
    path = "sandbox:/mnt/data/über sicht.csv"
    text = f"Here: [download]({path})."
    answer = of_thread(
        message(
            text,
            {
                "type": "file_path",
                "text": path,
                "start_index": text.index(path),
                "end_index": 0,
                "file_path": {"file_id": "file-9"},
            },
        )
    )
    assert answer.text == "Here: [download](über sicht.csv)."
    assert answer.files == ({"file_id": "file-9", "name": "über sicht.csv"},)
    assert answer.citations == ()


def test_images_and_attachments_are_files():
    """An image and an attached file without any annotation are kept too, once each."""
    image = {"type": "image_file", "image_file": {"file_id": "file-2"}}
    answer = of_thread(
        {
            "id": "m",
            "role": "assistant",
            "content": [image],
            "attachments": [{"file_id": "file-2"}, {"file_id": "file-7", "tools": []}],
        }
    )
    assert [file["file_id"] for file in answer.files] == ["file-2", "file-7"]
    assert [file["name"] for file in answer.files] == ["looking-glass.txt", "file-7"]
    assert answer.messages == 1
    assert answer.note == "files only: 2"


def test_content_of_unknown_kind_is_told():
    """What we cannot show is said, never silently dropped."""
    part = {"type": "hologram", "hologram": {}}
    answer = of_thread({"id": "m", "role": "assistant", "content": [part, {"type": "text", "text": "so"}]})
    assert answer.text == "so"
    assert answer.note == "left out content of unknown kind: hologram"


def test_content_of_other_servers_is_read():
    """A plain text, a text without its object, nothing at all."""
    assert of_thread({"id": "m", "role": "assistant", "content": "plain"}).text == "plain"
    assert of_thread({"id": "m", "role": "assistant", "content": [{"type": "text", "text": "x"}]}).text == "x"
    assert of_thread({"id": "m", "role": "assistant", "content": None}).text == ""


def test_responses_cite_at_a_place():
    """`file_citation` has only the place to cite at, and tells the name."""
    annotation = {"type": "file_citation", "file_id": "file-5", "filename": "five.pdf", "index": 4}
    assert of_items(item("Five is odd.", annotation)).text == "Five[1] is odd.\n\n[1] five.pdf"


def test_responses_cite_pages():
    """A link is replaced; words that are no link are kept and cited behind."""
    text = "It rains ([met](https://met.no/oslo)). Always."
    link = "([met](https://met.no/oslo))"
    annotation = {
        "type": "url_citation",
        "url": "https://met.no/oslo",
        "title": "Weather",
        "start_index": text.index(link),
        "end_index": text.index(link) + len(link),
    }
    answer = of_items(item(text, annotation))
    assert answer.text == "It rains [1]. Always.\n\n[1] Weather https://met.no/oslo"
    assert answer.citations == ({"index": 1, "url": "https://met.no/oslo", "title": "Weather"},)
    words = {**annotation, "start_index": 0, "end_index": 8}
    assert of_items(item(text, words)).text.startswith("It rains[1] (")


def test_responses_name_container_files():
    """The file is fetched from its container; its path in the text becomes its name."""
    text = "See [chart](sandbox:/mnt/data/chart.png)."
    path = "sandbox:/mnt/data/chart.png"
    annotation = {
        "type": "container_file_citation",
        "container_id": "cntr_1",
        "file_id": "cfile_1",
        "filename": "chart.png",
        "start_index": text.index(path),
        "end_index": text.index(path) + len(path),
    }
    answer = of_items(item(text, annotation))
    assert answer.text == "See [chart](chart.png)."
    assert answer.files == ({"file_id": "cfile_1", "name": "chart.png", "container_id": "cntr_1"},)
    nowhere = {**annotation, "start_index": 0, "end_index": 0}
    assert of_items(item(text, nowhere)).files == answer.files


def test_commentary_gives_way_to_the_final_answer():
    """Beside a final answer, what was said on the way is none; without one it is all there is."""
    thinking = {**item("Let me see."), "phase": "commentary"}
    final = {**item("42"), "phase": "final_answer"}
    assert of_items(thinking, final).text == "42"
    assert of_items(thinking).text == "Let me see."


def test_a_refusal_among_items_is_told():
    """The words are the answer, and it is marked."""
    content = [{"type": "refusal", "refusal": "No."}]
    answer = of_items({"type": "message", "id": "m", "role": "assistant", "content": content})
    assert (answer.text, answer.refusal) == ("No.", True)


pieces = st.text(alphabet="ab 🐇é†", max_size=8)
sources = st.sampled_from(["file-1", "file-2", "file-3"])


@given(st.lists(st.tuples(pieces, sources), min_size=1, max_size=6), pieces, st.integers(-40, 40))
def test_every_marker_goes_and_every_other_letter_stays(parts, tail, shift):
    """Whatever the text, however wrong the positions: markers out, the rest untouched, numbers in order."""
    text, marks = "", []
    for number, (words, file_id) in enumerate(parts):
        marker = f"【{number}:0†src】"
        text += words
        start = len(text) + shift
        marks.append(Mark(start, start + len(marker), marker, Source(file_id=file_id)))
        text += marker
    text += tail
    notes = Footnotes()
    written = notes.put_in(text, marks[::-1])
    order = list(dict.fromkeys(file_id for _, file_id in parts))
    expected = "".join(f"{words}[{order.index(file_id) + 1}]" for words, file_id in parts) + tail
    assert written == expected
    assert [source.file_id for source in notes.sources] == order
    assert not MARKER.search(written)


@given(st.text(max_size=30), st.lists(st.tuples(st.integers(-5, 40), st.integers(-5, 40)), max_size=5))
def test_no_position_whatever_breaks_a_text(text, spans):
    """Positions from anywhere, backwards or outside: a text comes out, every source is listed."""
    annotations = [
        {"type": "url_citation", "url": f"https://{n}.example", "start_index": start, "end_index": end}
        for n, (start, end) in enumerate(spans)
    ]
    answer = of_items(item(text, *annotations))
    assert len(answer.citations) == len(spans)

"""The answer of a run: one text with numbered footnotes in place of markers, and no text lost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from askmill.worker.backends.answer_builder import build_answer
from askmill.worker.backends.assistants_parse import draft_from_messages
from askmill.worker.backends.footnotes import MARKER, Annotation, Footnotes, Source
from askmill.worker.backends.responses_parse import draft_from_items, parse_step

NAMES = {"file-1": "alice.txt", "file-2": "looking-glass.txt"}


def message(text, *annotations, **more):
    part = {"type": "text", "text": {"value": text, "annotations": list(annotations)}}
    return {"id": "msg_1", "role": "assistant", "content": [part], **more}


def cited(text, marker, file_id, start=None, **inner):
    """An annotation of the Assistants API. `start` may be wrong."""
    position = text.index(marker) if start is None else start
    return {
        "type": "file_citation",
        "text": marker,
        "start_index": position,
        "end_index": position + len(marker),
        "file_citation": {"file_id": file_id, **inner},
    }


def item(text, *annotations):
    part = {"type": "output_text", "text": text, "annotations": list(annotations)}
    return {"type": "message", "id": "msg_1", "role": "assistant", "content": [part]}


def answer_of_messages(*messages, footnotes=True):
    return build_answer(draft_from_messages(list(messages)), NAMES, footnotes=footnotes)[0]


def answer_of_items(*items):
    return build_answer(draft_from_items(items), NAMES, footnotes=True)[0]


def test_a_citation_becomes_a_footnote():
    """The marker becomes `[1]`, and the end names the file."""
    text = "She fell【4:0†alice.txt】 down."
    answer = answer_of_messages(
        message(text, cited(text, "【4:0†alice.txt】", "file-1", quote="down the hole"))
    )
    assert answer.text == "She fell[1] down.\n\n[1] alice.txt"
    assert answer.citations == (
        {"index": 1, "file_id": "file-1", "filename": "alice.txt", "quote": "down the hole"},
    )


def test_a_source_has_one_number_in_all_messages():
    """A file cited again keeps its number. Numbers follow the text."""
    first = "A【4:1†b】 and B【4:0†a】."
    second = "C【5:0†a】."
    answer = answer_of_messages(
        message(first, cited(first, "【4:0†a】", "file-1"), cited(first, "【4:1†b】", "file-2")),
        message(second, cited(second, "【5:0†a】", "file-1")),
    )
    assert answer.text == "A[1] and B[2].\n\nC[2].\n\n[1] looking-glass.txt\n[2] alice.txt"


def test_wrong_positions_are_corrected():
    """Counted in UTF-16 units or bytes, the annotated text is found, the nearest first."""
    text = "🐇🐇 erst【4:0†a】, dann【4:0†a】."
    second = text.rindex("【")
    answer = answer_of_messages(
        message(
            text,
            cited(text, "【4:0†a】", "file-2", start=second + 4),
            cited(text, "【4:0†a】", "file-1", start=7),
        )
    )
    assert answer.text.startswith("🐇🐇 erst[1], dann[2].")
    assert [citation["file_id"] for citation in answer.citations] == ["file-1", "file-2"]


def test_a_repeated_marker_is_replaced_everywhere():
    """One annotation, two markers with the same text."""
    text = "A【4:0†a】 B【4:0†a】."
    assert answer_of_messages(message(text, cited(text, "【4:0†a】", "file-1"))).text.startswith("A[1] B[1].")


def test_a_marker_without_annotation_is_removed():
    """The API sends some. Their source is unknown."""
    assert answer_of_messages(message("It is so 【4:0†source】.")).text == "It is so."


def test_a_citation_that_cannot_be_located_is_listed():
    """The annotated text is missing: the footnote is listed and the text unchanged."""
    answer = answer_of_messages(message("Nothing marked.", cited("x【9】", "【9】", "file-1")))
    assert answer.text == "Nothing marked.\n\n[1] alice.txt"


def test_overlapping_annotations_cut_no_text_twice():
    """Overlapping spans are replaced together."""
    text = "Said 【4:0†a】 here."
    whole = cited(text, "【4:0†a】", "file-1")
    part = {**cited(text, "0†a】", "file-2")}
    assert answer_of_messages(message(text, whole, part)).text.startswith("Said [1][2] here.")


def test_json_stays_json():
    """With a response schema the markers are removed and no footnotes added. `citations` has the sources."""
    text = '{"answer": "fell【4:0†a】"}'
    answer = answer_of_messages(message(text, cited(text, "【4:0†a】", "file-1")), footnotes=False)
    assert answer.text == '{"answer": "fell"}'
    assert answer.citations[0]["filename"] == "alice.txt"


def test_a_generated_file_is_named_in_place():
    """Its name replaces the path in the sandbox, and the file is listed."""
    path = "sandbox:/mnt/data/über sicht.csv"
    text = f"Here: [download]({path})."
    answer = answer_of_messages(
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


def test_images_and_attachments_are_generated_files():
    """Also without an annotation, and once each."""
    image = {"type": "image_file", "image_file": {"file_id": "file-2"}}
    answer = answer_of_messages(
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


def test_unknown_content_is_noted():
    """It is never dropped silently."""
    part = {"type": "hologram", "hologram": {}}
    answer = answer_of_messages(
        {"id": "m", "role": "assistant", "content": [part, {"type": "text", "text": "so"}]}
    )
    assert answer.text == "so"
    assert answer.note == "left out content of unknown kind: hologram"


def test_plain_text_content_is_read():
    """Compatible servers send a string, a text without its object, or nothing."""
    assert answer_of_messages({"id": "m", "role": "assistant", "content": "plain"}).text == "plain"
    assert (
        answer_of_messages({"id": "m", "role": "assistant", "content": [{"type": "text", "text": "x"}]}).text
        == "x"
    )
    assert answer_of_messages({"id": "m", "role": "assistant", "content": None}).text == ""


def test_responses_file_citations_have_a_position():
    """`file_citation` has a position without a text, and the file's name."""
    annotation = {"type": "file_citation", "file_id": "file-5", "filename": "five.pdf", "index": 4}
    assert answer_of_items(item("Five is odd.", annotation)).text == "Five[1] is odd.\n\n[1] five.pdf"


def test_responses_page_citations_replace_the_link():
    """Words that are not a link are kept and cited after them."""
    text = "It rains ([met](https://met.no/oslo)). Always."
    link = "([met](https://met.no/oslo))"
    annotation = {
        "type": "url_citation",
        "url": "https://met.no/oslo",
        "title": "Weather",
        "start_index": text.index(link),
        "end_index": text.index(link) + len(link),
    }
    answer = answer_of_items(item(text, annotation))
    assert answer.text == "It rains [1]. Always.\n\n[1] Weather https://met.no/oslo"
    assert answer.citations == ({"index": 1, "url": "https://met.no/oslo", "title": "Weather"},)
    no_link = {**annotation, "start_index": 0, "end_index": 8}
    assert answer_of_items(item(text, no_link)).text.startswith("It rains[1] (")


def test_responses_name_container_files():
    """The file is downloaded from its container, and its name replaces the path."""
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
    answer = answer_of_items(item(text, annotation))
    assert answer.text == "See [chart](chart.png)."
    assert answer.files == ({"file_id": "cfile_1", "name": "chart.png", "container_id": "cntr_1"},)
    without_span = {**annotation, "start_index": 0, "end_index": 0}
    assert answer_of_items(item(text, without_span)).files == answer.files


def test_commentary_is_left_out_beside_a_final_answer():
    """Without a final answer the commentary is the answer."""
    commentary = {**item("Let me see."), "phase": "commentary"}
    final = {**item("42"), "phase": "final_answer"}
    assert answer_of_items(commentary, final).text == "42"
    assert answer_of_items(commentary).text == "Let me see."


def test_a_refusal_among_items_is_marked():
    """Its text is the answer."""
    content = [{"type": "refusal", "refusal": "No."}]
    answer = answer_of_items({"type": "message", "id": "m", "role": "assistant", "content": content})
    assert (answer.text, answer.refusal) == ("No.", True)


fragments = st.text(alphabet="ab 🐇é†", max_size=8)
sources = st.sampled_from(["file-1", "file-2", "file-3"])


@given(st.lists(st.tuples(fragments, sources), min_size=1, max_size=6), fragments, st.integers(-40, 40))
def test_markers_are_replaced_and_the_rest_is_unchanged(parts, tail, shift):
    """For any text and any wrong positions; numbers follow the text."""
    text, annotations = "", []
    for number, (fragment, file_id) in enumerate(parts):
        marker = f"【{number}:0†src】"
        text += fragment
        start = len(text) + shift
        annotations.append(Annotation(start, start + len(marker), marker, Source(file_id=file_id)))
        text += marker
    text += tail
    notes = Footnotes()
    result = notes.insert(text, annotations[::-1])
    order = list(dict.fromkeys(file_id for _, file_id in parts))
    expected = "".join(f"{fragment}[{order.index(file_id) + 1}]" for fragment, file_id in parts) + tail
    assert result == expected
    assert [source.file_id for source in notes.sources] == order
    assert not MARKER.search(result)


@given(st.text(max_size=30), st.lists(st.tuples(st.integers(-5, 40), st.integers(-5, 40)), max_size=5))
def test_any_position_is_accepted(text, spans):
    """Backwards or outside the text: the answer is built and every source is listed."""
    annotations = [
        {"type": "url_citation", "url": f"https://{n}.example", "start_index": start, "end_index": end}
        for n, (start, end) in enumerate(spans)
    ]
    answer = answer_of_items(item(text, *annotations))
    assert len(answer.citations) == len(spans)


CITE = "\ue200filecite\ue202turn0file0\ue201"


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (f"It is so {CITE}.", "It is so."),
        ("It is so\ue200cite\ue202turn1search0\ue202turn1search2\ue201.", "It is so."),
        ("So 【†source】 it is【12:3†a b.pdf】.", "So it is."),
        ("Cut off \ue200filecite\ue202tu", "Cut off"),
        ("Cut off【4:0†ali", "Cut off"),
        ("【Kept】 as † text, and \ue200 alone goes", "【Kept】 as † text, and  alone goes"),
    ],
)
def test_citation_markers_are_removed_on_both_apis(text: str, kept: str) -> None:
    """Case A15: whatever form they have, without an annotation and in a truncated answer."""
    assert answer_of_messages(message(text)).text == kept
    assert answer_of_items(item(text)).text == kept
    step = parse_step({**item(text), "phase": "commentary"}, "r", 1, {}, {})
    assert step is not None
    assert step.details["text"] == kept


@pytest.mark.parametrize("place", ["start", "inside", "end"])
def test_a_marker_that_an_annotation_points_at_becomes_a_footnote(place: str) -> None:
    """Case A15: Responses name a position, which may be anywhere in the marker."""
    text = f"She fell {CITE} down."
    index = text.index(CITE) + {"start": 0, "inside": 5, "end": len(CITE)}[place]
    cited_at = {"type": "file_citation", "index": index, "file_id": "file-1", "filename": "alice.txt"}
    assert answer_of_items(item(text, cited_at)).text == "She fell[1] down.\n\n[1] alice.txt"


def test_a_cited_passage_is_not_taken_for_its_marker() -> None:
    """Some servers send the passage itself as the annotated text: it was paid for."""
    text = "She fell down the hole."
    answer = answer_of_messages(message(text, cited(text, "fell down", "file-1")))
    assert answer.text == "She fell down[1] the hole.\n\n[1] alice.txt"

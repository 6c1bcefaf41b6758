"""The preview of an input as text and as JSON: format, columns with first values, questions as asked."""

from typing import Any

from askmill.config.text import count_of, one_line
from askmill.jobs.intake.content import InputFormat
from askmill.jobs.intake.preview import Preview

FORMATS = {
    InputFormat.CSV: "CSV",
    InputFormat.TXT: "text, a question per line",
    InputFormat.JSONL: "JSON lines",
    InputFormat.JSON: "JSON array",
    InputFormat.PARQUET: "Parquet",
    InputFormat.WORKBOOK: "workbook",
}
DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "pipe"}
NAME_WIDTH, VALUE_WIDTH, QUESTION_WIDTH = 30, 24, 160


def preview_text(preview: Preview) -> str:
    """The preview in lines: what the file is, a line per column, the first questions."""
    columns = preview.columns
    names = [one_line(name, NAME_WIDTH) for name in columns]
    width = max(map(len, names), default=0)
    lines = [f"{one_line(preview.file)}: {_kind(preview)}, {count_of(len(columns), 'column')}"]
    for index, name in enumerate(names):
        values = " · ".join(one_line(value, VALUE_WIDTH) for value in preview.values(index))
        lines.append(f"  {name:{width}}  {values}".rstrip())
    if preview.has_question:
        lines.append("First questions:")
        lines += [f"  row {number}: {_question(text)}" for number, text in enumerate(preview.questions, 1)]
    return "\n".join(lines)


def left_out_line(rows: int, rejected: int, blank_lines: int) -> str:
    """What of a file is not asked: `2 blank lines are skipped, 3 of 20 rows are rejected …`; or empty.

    Args:
        rows: all rows of the file.
        rejected: those of them that have a fault.
        blank_lines: lines above a row that are blank, and so none of the rows.
    """
    parts = []
    if blank_lines:
        parts.append(f"{count_of(blank_lines, 'blank line')} {'is' if blank_lines == 1 else 'are'} skipped")
    if rejected:
        verb = "has a fault and is" if rejected == 1 else "have faults and are"
        parts.append(f"{rejected:,} of {count_of(rows, 'row')} {verb} not asked (status rejected)")
    return f"{'; '.join(parts)}. {count_of(rows - rejected, 'row')} to ask." if parts else ""


def _kind(preview: Preview) -> str:
    parts = [FORMATS[preview.format]]
    if preview.compression is not None:
        parts[0] += f" in {preview.compression}"
    if preview.delimiter is not None:
        parts.append(f"delimiter {DELIMITERS.get(preview.delimiter, repr(preview.delimiter))}")
    if preview.quoting not in {None, "csv"}:
        parts.append(f"quoting {preview.quoting}")
    if preview.sheets:
        first, *others = map(repr, preview.sheets)
        parts.append(f"sheet {first}" + (f" (others: {', '.join(others[:10])})" if others else ""))
    if preview.encoding is not None:
        parts.append(f"encoding {preview.encoding}")
    return ", ".join(parts)


def _question(text: str | None) -> str:
    return "(has a fault)" if text is None else one_line(text, QUESTION_WIDTH)


def preview_json(preview: Preview) -> dict[str, Any]:
    """The preview as JSON; `columns` has each column's name and first values."""
    spec = preview.spec
    return {
        "format": preview.format,
        "compression": preview.compression,
        "encoding": preview.encoding,
        "delimiter": preview.delimiter,
        "quoting": preview.quoting,
        "sheets": preview.sheets,
        "columns": [
            {"name": name, "first_values": preview.values(index)}
            for index, name in enumerate(preview.columns)
        ],
        "question_column": spec.question_column,
        "template": spec.template,
        "first_questions": preview.questions if preview.has_question else [],
    }

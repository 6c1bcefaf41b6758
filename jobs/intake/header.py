"""Reads the header: which columns hold the question, the id, the conversation and the overrides."""

from collections import Counter
from dataclasses import dataclass
from difflib import get_close_matches

from askmill.jobs.intake.options import IntakeOptions
from askmill.jobs.intake.overrides import OVERRIDE_COLUMNS
from askmill.jobs.intake.source import encoding_fault
from askmill.jobs.model.models import PLACEHOLDER, InputSpec

QUESTION_COLUMNS = ("question", "prompt", "query", "input")
MAX_NAME_LENGTH = 60


@dataclass(frozen=True)
class Header:
    """How rows become questions, and the faults of the header.

    `name_faults` concern the column names, `faults` the options. The spec has no question column if none was
    found.
    """

    spec: InputSpec
    name_faults: tuple[str, ...]
    faults: tuple[str, ...]


def read_header(columns: list[str], options: IntakeOptions) -> Header:
    """Combine the column names and the options into an InputSpec and the faults of both."""
    reason = encoding_fault("\n".join(columns))
    if reason is not None:
        return Header(InputSpec(tuple(columns), None), (f"the header has {reason}",), ())
    question, missing = _question_column(columns, options)
    faults = [
        *missing,
        *_template_faults(columns, options.template),
        *_unknown_column(columns, "--id-column", options.id_column),
        *_unknown_column(columns, "--conversation-column", options.conversation_column),
        *(fault for name in options.overrides for fault in _override_faults(columns, name)),
    ]
    spec = InputSpec(
        columns=tuple(columns),
        question_column=question,
        template=options.template,
        id_column=options.id_column,
        conversation_column=options.conversation_column,
        overrides=tuple(dict.fromkeys(options.overrides)),
    )
    return Header(spec, tuple(_name_faults(columns)), tuple(faults))


def _name_faults(columns: list[str]) -> list[str]:
    faults = [
        f"column {number} of the header has no name; name it or delete the column"
        for number, name in enumerate(columns, 1)
        if not name.strip()
    ]
    duplicates = [name for name, count in Counter(columns).items() if count > 1 and name.strip()]
    return faults + [
        f"the header has the column {name!r} more than once; rename one of them" for name in duplicates
    ]


def _question_column(columns: list[str], options: IntakeOptions) -> tuple[str | None, list[str]]:
    if options.template is not None:
        both = options.question_column is not None
        return None, ["--template and --question-column exclude each other; use one of them"] if both else []
    if options.question_column is not None:
        return options.question_column, _unknown_column(columns, "--question-column", options.question_column)
    by_folded_name = {name.strip().casefold(): name for name in reversed(columns)}
    candidates = [by_folded_name[name] for name in QUESTION_COLUMNS if name in by_folded_name]
    if candidates:
        return candidates[0], []
    if len(columns) > 1:
        fault = (
            f"no question column found: {_describe_columns(columns)}; name one with --question-column, or "
            "several with --template (if the file has no header line, add one)"
        )
        return None, [fault]
    return columns[0], _missing_header_faults(columns[0])


def _missing_header_faults(column: str) -> list[str]:
    """Refuse a first line that looks like a question: as a header it would not be asked."""
    name = column.strip()
    if not name.endswith(("?", "!", ".")) and len(name) <= MAX_NAME_LENGTH and "\n" not in name:
        return []
    fault = (
        f"no header: the first line, {_shorten(name)!r}, reads like a question; add a line `question` above "
        "it, or, if it is the column's name, pass it with --question-column"
    )
    return [fault]


def _template_faults(columns: list[str], template: str | None) -> list[str]:
    if template is None:
        return []
    placeholders = [match[1] for match in PLACEHOLDER.finditer(template) if match[1]]
    faults = [
        fault
        for name in dict.fromkeys(placeholders)
        for fault in _unknown_column(columns, "--template", name)
    ]
    literal_text = PLACEHOLDER.sub("", template)
    if "{" in literal_text or "}" in literal_text:
        faults.append(
            "--template has a brace that is not part of a {column}; double braces that are text: {{ }}"
        )
    elif not placeholders:
        faults.append(f"--template names no column; name one in single braces, such as {{{columns[0]}}}")
    return faults


def _unknown_column(columns: list[str], option: str, name: str | None) -> list[str]:
    if name is None or name in columns:
        return []
    format_hint = (
        "" if option != "--template" or not set(name) & set(".!:[]") else " (column names only, no formats)"
    )
    matches = get_close_matches(name.casefold(), [column.casefold() for column in columns], n=1)
    suggestion = next((column for column in columns if matches and column.casefold() == matches[0]), None)
    hint = f"; did you mean {suggestion!r}?" if suggestion is not None else ""
    return [f"{option}: there is no column {name!r}{format_hint}; {_describe_columns(columns)}{hint}"]


def _override_faults(columns: list[str], name: str) -> list[str]:
    if name not in OVERRIDE_COLUMNS:
        return [f"--override {name!r} is not one of {', '.join(OVERRIDE_COLUMNS)}"]
    return _unknown_column(columns, "--override", name)


def _describe_columns(columns: list[str]) -> str:
    shown = ", ".join(_shorten(name) for name in columns[:30])
    more = f" and {len(columns) - 30} more" if len(columns) > 30 else ""
    return f"the file has {shown}{more}" if len(columns) > 1 else f"the file has only {shown}"


def _shorten(name: str) -> str:
    return name if len(name) <= MAX_NAME_LENGTH else f"{name[:MAX_NAME_LENGTH]}…"

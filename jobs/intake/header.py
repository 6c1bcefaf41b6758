"""Reads the header: which columns hold the question, the id, the conversation and the overrides."""

import shlex
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches

from askmill.config.text import did_you_mean
from askmill.jobs.intake.encodings import encoding_fault
from askmill.jobs.intake.options import IntakeOptions
from askmill.jobs.intake.overrides import OVERRIDE_COLUMNS
from askmill.jobs.model.models import PLACEHOLDER, InputSpec

QUESTION_COLUMNS = ("question", "questions", "prompt", "query", "input", "text")
"""The usual names of the question column, the likeliest first."""
INSTRUCTION_COLUMNS = ("instruction", "instructions")
DATA_COLUMNS = ("query", "input", "text")
"""Usual names of the question column that, beside an instruction, hold what it is about (Alpaca's format)."""
LIKELY_COLUMNS = (*INSTRUCTION_COLUMNS, "goal", "problem", "task", "title", "content", "message", "sentence")
"""Not taken without being named, but proposed."""
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


def read_header(
    columns: list[str], options: IntakeOptions, encoding_proposal: Callable[[], str] = str
) -> Header:
    """Combine the column names and the options into an InputSpec and the faults of both."""
    reason = encoding_fault("\n".join(columns))
    if reason is not None:
        fault = f"the header has {reason}. {encoding_proposal()}".removesuffix(". ")
        return Header(InputSpec(tuple(columns), None), (fault,), ())
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
    by_folded_name = {_folded(name): name for name in reversed(columns)}
    candidates = [by_folded_name[name] for name in QUESTION_COLUMNS if name in by_folded_name]
    if candidates and (fault := _half_of_an_instruction(columns, candidates[0])):
        return None, [fault]
    if candidates:
        return candidates[0], []
    return None, [_no_question_column(columns)]


def _half_of_an_instruction(columns: list[str], candidate: str) -> str | None:
    """The fault of a file in Alpaca's format, whose `input` is only what its `instruction` is about."""
    instruction = next((name for name in columns if _folded(name) in INSTRUCTION_COLUMNS), None)
    if instruction is None or _folded(candidate) not in DATA_COLUMNS:
        return None
    template = "{%s} {%s}" % (instruction, candidate)  # noqa: UP031 -- braces of the template itself
    return (
        f"{candidate!r} stands beside {instruction!r}, as in instruction sets, and would be half of the "
        f'question; pass --template "{template}", or --question-column {shlex.quote(candidate)} if it is all'
    )


def is_usual_name(name: str) -> bool:
    """Whether a column of this name is taken as the question without an option."""
    return _folded(name) in QUESTION_COLUMNS


def _folded(name: str) -> str:
    return name.strip("\ufeff \t\r\n").casefold()


def _no_question_column(columns: list[str]) -> str:
    usual = f"none is called {', '.join(QUESTION_COLUMNS[:-1])} or {QUESTION_COLUMNS[-1]}"
    likely = next((name for name in columns if _folded(name) in LIKELY_COLUMNS), None)
    example = "" if likely is None else f" (such as --question-column {shlex.quote(likely)})"
    if len(columns) > 1:
        return (
            f"no question column found: {_describe_columns(columns)}, {usual}; name one with "
            f"--question-column{example}, or several with --template (if the file has no header line, add "
            "one)"
        )
    # A single column under another name may be a question, or a file that was not meant to be asked.
    return (
        f"no question column found: {_describe_columns(columns)}; if that is its name, pass it with "
        "--question-column; if it is a question already, there is no header: add a line `question` above it, "
        "or name a file of plain questions .txt; if it is several columns, name what separates them with "
        "--delimiter"
    )


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
        hint = did_you_mean(name, OVERRIDE_COLUMNS)
        return [f"--override {name!r} is not one of {', '.join(OVERRIDE_COLUMNS)}{hint}"]
    return _unknown_column(columns, "--override", name)


def _describe_columns(columns: list[str]) -> str:
    shown = ", ".join(_shorten(name) for name in columns[:30])
    more = f" and {len(columns) - 30} more" if len(columns) > 30 else ""
    return f"the file has {shown}{more}" if len(columns) > 1 else f"the file has only {shown}"


def _shorten(name: str) -> str:
    return name if len(name) <= MAX_NAME_LENGTH else f"{name[:MAX_NAME_LENGTH]}…"

"""What the header and the options make of the columns: where question, id and thread come from."""

from collections import Counter
from dataclasses import dataclass
from difflib import get_close_matches

from askmill.jobs.intake.encoding_faults import unsound
from askmill.jobs.intake.options import IntakeOptions
from askmill.jobs.intake.overrides import KNOWN as KNOWN_OVERRIDES
from askmill.jobs.model.models import PLACEHOLDER, InputSpec

USUAL_QUESTION_COLUMNS = ("question", "prompt", "query", "input")
LONGEST_LIKELY_NAME = 60


@dataclass(frozen=True)
class Header:
    """The spec, and what is wrong with the names or the options; a spec without a question reads none."""

    spec: InputSpec
    name_faults: tuple[str, ...]
    faults: tuple[str, ...]


def read_header(columns: list[str], options: IntakeOptions) -> Header:
    """How the rows under these columns become questions."""
    reason = unsound("\n".join(columns))
    if reason is not None:
        return Header(InputSpec(tuple(columns), None), (f"the header has {reason}",), ())
    question, missing = _question_column(columns, options)
    faults = [
        *missing,
        *_template_faults(columns, options.template),
        *_unknown(columns, "--id-column", options.id_column),
        *_unknown(columns, "--conversation-column", options.conversation_column),
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
        f"column {place} of the header has no name; give it one, or take the column out"
        for place, name in enumerate(columns, 1)
        if not name.strip()
    ]
    twice = [name for name, count in Counter(columns).items() if count > 1 and name.strip()]
    return faults + [
        f"the header has the column {name!r} more than once; rename one of them" for name in twice
    ]


def _question_column(columns: list[str], options: IntakeOptions) -> tuple[str | None, list[str]]:
    if options.template is not None:
        both = options.question_column is not None
        return None, ["--template and --question-column exclude each other; give one of them"] if both else []
    if options.question_column is not None:
        return options.question_column, _unknown(columns, "--question-column", options.question_column)
    spelled = {name.strip().casefold(): name for name in reversed(columns)}
    usual = [spelled[name] for name in USUAL_QUESTION_COLUMNS if name in spelled]
    if usual:
        return usual[0], []
    if len(columns) > 1:
        fault = (
            f"which column is the question? {_listed(columns)}; name it with --question-column, or several "
            "with --template (and if the file has no header line, add one)"
        )
        return None, [fault]
    return columns[0], _headless(columns[0])


def _headless(only: str) -> list[str]:
    """A first line that is itself a question would be lost as a header, unseen."""
    name = only.strip()
    if not name.endswith(("?", "!", ".")) and len(name) <= LONGEST_LIKELY_NAME and "\n" not in name:
        return []
    fault = (
        f"no header: the first line, {_short(name)!r}, reads like a question; put a line `question` above "
        "it, or, if it is the column's name, give it to --question-column"
    )
    return [fault]


def _template_faults(columns: list[str], template: str | None) -> list[str]:
    if template is None:
        return []
    named = [found[1] for found in PLACEHOLDER.finditer(template) if found[1]]
    faults = [fault for name in dict.fromkeys(named) for fault in _unknown(columns, "--template", name)]
    left = PLACEHOLDER.sub("", template)
    if "{" in left or "}" in left:
        faults.append(
            "--template has a brace that belongs to no {column}; a brace that is text is doubled: {{ }}"
        )
    elif not named:
        faults.append(f"--template names no column; write such as {{{columns[0]}}}, with single braces")
    return faults


def _unknown(columns: list[str], option: str, name: str | None) -> list[str]:
    if name is None or name in columns:
        return []
    plain = (
        "" if option != "--template" or not set(name) & set(".!:[]") else " (plain names only, no formats)"
    )
    near = get_close_matches(name.casefold(), [column.casefold() for column in columns], n=1)
    meant = next((column for column in columns if near and column.casefold() == near[0]), None)
    hint = f"; did you mean {meant!r}?" if meant is not None else ""
    return [f"{option}: there is no column {name!r}{plain}; {_listed(columns)}{hint}"]


def _override_faults(columns: list[str], name: str) -> list[str]:
    if name not in KNOWN_OVERRIDES:
        return [f"--override {name!r} is not one of {', '.join(KNOWN_OVERRIDES)}"]
    return _unknown(columns, "--override", name)


def _listed(columns: list[str]) -> str:
    shown = ", ".join(_short(name) for name in columns[:30])
    more = f" and {len(columns) - 30} more" if len(columns) > 30 else ""
    return f"the file has {shown}{more}" if len(columns) > 1 else f"the file has only {shown}"


def _short(name: str) -> str:
    return name if len(name) <= LONGEST_LIKELY_NAME else f"{name[:LONGEST_LIKELY_NAME]}…"

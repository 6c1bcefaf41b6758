"""What the command line says about reading a file."""

from dataclasses import dataclass


@dataclass(frozen=True)
class IntakeOptions:
    """The options of `run`, `submit` and `estimate` that concern the file; None means detected or absent.

    `limit` counts rows, the rejected ones too.
    """

    question_column: str | None = None
    template: str | None = None
    id_column: str | None = None
    conversation_column: str | None = None
    overrides: tuple[str, ...] = ()
    delimiter: str | None = None
    encoding: str | None = None
    limit: int | None = None
    skip_bad_rows: bool = False

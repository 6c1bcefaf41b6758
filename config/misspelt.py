"""Finds misspelt settings: nothing reads `ASKMILL_MODLE`, so nothing else would say that it has no effect."""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

PREFIX = "ASKMILL_"
SERVICE_LINK = re.compile(r"SERVICE_(HOST|PORT)|_(TCP|UDP)(_|$)|PORT$")
"""What Kubernetes and Docker set for a service that is called `askmill` or `askmill-…`."""


def misspelt_settings() -> list[str]:
    """A sentence for each variable of the environment and of `.env` that is almost a setting."""
    names = [(name, "") for name in _set_names(os.environ) if not _is_service_link(name)]
    names += [(name, " in .env") for name in _env_file_names()]
    if not names:
        return []
    from askmill.config.settings import Settings, variable_of  # noqa: PLC0415 -- 80 ms, see `Root.invoke`

    variables = [variable_of(field) for field in Settings.model_fields]
    return [
        f"{name}{place} is no setting; did you mean {similar}?"
        for name, place in names
        if name.upper() not in variables and (similar := _most_similar(name.upper(), variables))
    ]


def _most_similar(name: str, variables: Iterable[str]) -> str | None:
    """The setting whose name is closest, prefixes aside: ASKMILL_API_KEY is OPENAI_API_KEY."""
    from difflib import get_close_matches  # noqa: PLC0415 -- only for a typo

    by_suffix = {variable.partition("_")[2]: variable for variable in variables}
    close = get_close_matches(name.removeprefix(PREFIX), by_suffix, n=1, cutoff=0.65)
    return by_suffix[close[0]] if close else None


def _set_names(values: Mapping[str, str | None]) -> Iterator[str]:
    return (name for name, value in values.items() if value and name.upper().startswith(PREFIX))


def _is_service_link(name: str) -> bool:
    return SERVICE_LINK.search(name.upper()) is not None and name.upper() != "ASKMILL_METRICS_PORT"


def _env_file_names() -> list[str]:
    path = Path(".env")
    try:
        if PREFIX not in path.read_text("utf-8").upper():
            return []
        from askmill.config.env_file import raw_values  # noqa: PLC0415 -- few folders have one

        return list(_set_names(raw_values(path)))
    except (OSError, ValueError):
        return []  # `load_settings` says so

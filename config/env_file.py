"""The `.env` of the working folder, which may have come with the folder: it reads nothing of the environment.

python-dotenv replaces `${NAME}` by a variable of the environment. In a setting that is sent, such as
`OPENAI_BASE_URL=https://example.com/${AWS_SECRET_ACCESS_KEY}/v1`, that would send any secret anywhere.
"""

import os
from collections.abc import Mapping
from pathlib import Path

from dotenv import dotenv_values
from dotenv.variables import Variable, parse_variables
from pydantic_settings import DotEnvSettingsSource

OURS = ("ASKMILL_", "OPENAI_")
STAY_HERE = frozenset({"ASKMILL_DATA_DIR", "ASKMILL_PRICES"})
"""Paths, which are sent nowhere: `${HOME}` may stand in them."""


class ReadsEnvironment(ValueError):
    """A setting whose value in `.env` refers to a variable of the environment."""


class EnvFile(DotEnvSettingsSource):
    """Reads `.env` as pydantic does, but for references to the environment. Raises ReadsEnvironment."""

    def _read_env_file(self, file_path: Path) -> Mapping[str, str | None]:
        raw = dotenv_values(file_path, encoding="utf-8", interpolate=False)
        return {name.lower(): value for name, value in resolved(raw, os.environ).items() if value}


def resolved(raw: Mapping[str, str | None], environment: Mapping[str, str]) -> dict[str, str | None]:
    """The file's values with `${NAME}` replaced by earlier lines of the file, else by the environment.

    Raises:
        ReadsEnvironment: one of our settings refers to the environment, itself or by way of another line.
            A setting that the environment has itself is passed over, for its line in the file has no effect.
    """
    values, borrowed = dict[str, str | None](), dict[str, str]()
    set_there = {name.upper() for name, value in environment.items() if value}
    for name, text in raw.items():
        atoms = list(parse_variables(text or ""))
        for named in (atom.name for atom in atoms if isinstance(atom, Variable)):
            if named in borrowed:
                borrowed[name] = borrowed[named]
            elif named in environment and named not in values:
                borrowed[name] = named
        values[name] = "".join(atom.resolve({**environment, **values}) for atom in atoms)
        variable = name.upper()
        if name in borrowed and variable.startswith(OURS) and variable not in STAY_HERE | set_there:
            raise ReadsEnvironment(
                f"{variable}: .env in {Path.cwd()} refers to {borrowed[name]} of the environment, which a "
                "file in the working folder may not read. Write the value itself into .env, or set "
                f"{variable} in the environment."
            )
    return values

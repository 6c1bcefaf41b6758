"""Writes docs/reference/licences.md: the packages of requirements.txt with the licences that they declare."""

import re
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "reference" / "licences.md"
HEAD = """# Licences of the dependencies

What the container image installs (`requirements.txt`), with the licence that each package declares. Made by
`python docs/licences.py`. A release carries a software bill of materials (CycloneDX) beside its files.

| package | licence |
|---|---|
"""
LONGEST = 60


def required() -> list[str]:
    """The names in requirements.txt, in its order."""
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    return [found[0] for line in lines if (found := re.match(r"[A-Za-z0-9_.-]+(?===)", line))]


def licence_of(name: str) -> str:
    """The licence expression, else the classifiers, else a short text of its own.

    A package of another platform (`tzdata` of Windows) keeps what the page says of it.
    """
    try:
        fields = metadata(name)
    except PackageNotFoundError:
        page = PAGE.read_text(encoding="utf-8")
        listed = re.search(rf"^\| {re.escape(name)} \| (.+) \|$", page, re.MULTILINE)
        return listed[1] if listed else "not on this platform"
    if expression := fields.get("License-Expression"):
        return expression
    classifiers = [entry for entry in fields.get_all("Classifier") or [] if entry.startswith("License ::")]
    names = [entry.rsplit(" :: ", 1)[-1] for entry in classifiers]
    text = " ".join((fields.get("License") or "").split())
    return ", ".join(names) or (text if text and len(text) <= LONGEST else "see the package")


if __name__ == "__main__":
    PAGE.write_text(
        HEAD + "".join(f"| {name} | {licence_of(name)} |\n" for name in required()), encoding="utf-8"
    )

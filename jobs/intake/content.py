"""What an input is, by its first bytes: the format that it is read as, or a refusal that names it."""

import json
import re
import zipfile
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO

EXPORT_ADVICE = "save it as .xlsx or export the sheet as CSV (in Excel: Save As, 'CSV UTF-8')"
TABLE_ADVICE = "export its table as CSV or Parquet and pass that file"
PICTURE_ADVICE = "pass a file of questions; pictures belong to rows, see --override image"
UNPACK_ADVICE = "unpack it and pass one of the files in it"


class InputFormat(StrEnum):
    """The format of an input file."""

    CSV = "csv"
    TXT = "txt"
    JSONL = "jsonl"
    JSON = "json"
    PARQUET = "parquet"
    WORKBOOK = "workbook"


class Refused(Exception):
    """The content is none that askmill reads. The message says what it is and what to do."""


REFUSED_MAGIC = (
    (
        rb"version https://git-lfs\.github\.com/spec/",
        "a Git LFS pointer, not the file itself",
        "run `git lfs pull` in its repository",
    ),
    (
        rb"/annex/objects/",
        "a git-annex pointer, not the file itself",
        "run `git annex get` in its repository",
    ),
    (rb"%PDF-", "a PDF", "write its questions into a CSV or a .txt file, one per line"),
    (rb"\x89PNG\r\n", "a PNG picture", PICTURE_ADVICE),
    (rb"\xff\xd8\xff", "a JPEG picture", PICTURE_ADVICE),
    (rb"GIF8[79]a", "a GIF picture", PICTURE_ADVICE),
    (rb"RIFF....WEBP", "a WebP picture", PICTURE_ADVICE),
    (rb"II\*\x00|MM\x00\*", "a TIFF picture", PICTURE_ADVICE),
    (rb"....ftyp(heic|heix|mif1|avif)", "a HEIF picture", PICTURE_ADVICE),
    (rb"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", UNPACK_ADVICE),
    (rb"Rar!\x1a\x07", "a RAR archive", UNPACK_ADVICE),
    (rb"[\s\S]{257}ustar", "a tar archive", UNPACK_ADVICE),
    (rb"\xd0\xcf\x11\xe0", "an old or encrypted Excel workbook", EXPORT_ADVICE),
    (rb"SQLite format 3\x00", "an SQLite database", TABLE_ADVICE),
    (rb"ARROW1|FEA1", "an Arrow file", "write it as Parquet"),
    (rb"\x89HDF\r\n", "an HDF5 file", TABLE_ADVICE),
    (rb"\x93NUMPY", "a NumPy array", TABLE_ADVICE),
    (rb"Obj\x01", "an Avro file", TABLE_ADVICE),
    (rb"\x80[\x02-\x05][\x8c\x95(}\]c]", "a Python pickle", TABLE_ADVICE),
    (rb"\{\\rtf", "an RTF document", "save it as plain text with the extension .txt"),
)
REFUSED_TEXT = (
    (
        re.compile(r"<!doctype html|<html[\s>]|<head[\s>]|<body[\s>]", re.IGNORECASE),
        "an HTML page, such as a sign-in or error page",
        "download the file itself",
    ),
    (re.compile(r"<\?xml\s"), "an XML file", "export it as CSV or JSON"),
)
ZIP_MAGIC = b"PK\x03\x04"
JSON_OBJECT = re.compile(r'\{\s*["}]')
JSON_ARRAY = re.compile(r'\[\s*(?:[{"\]]|\Z)')
CSV_SUFFIXES = frozenset({".csv", ".tsv"})
JSONL_SUFFIXES = frozenset({".jsonl", ".ndjson"})
JSON_NAME_ADVICE = "name it {suffix}, or pipe it: `askmill run - < FILE`"


def refuse_binary(head: bytes) -> None:
    """Raise Refused if the bytes are those of a format that is not read."""
    for pattern, what, advice in REFUSED_MAGIC:
        if re.match(pattern, head, re.DOTALL):
            raise Refused(f"{what}; {advice}")


def refuse_zip(file: BinaryIO) -> None:
    """Raise Refused unless the zip archive is a workbook."""
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
            kind = archive.read("mimetype")[:80] if "mimetype" in names else b""
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, RuntimeError, EOFError) as error:
        raise Refused(f"a damaged zip archive or workbook ({error}); {EXPORT_ADVICE}") from error
    if kind == b"application/vnd.oasis.opendocument.spreadsheet" or "xl/workbook.xml" in names:
        return
    if "xl/workbook.bin" in names:
        raise Refused(f"a binary Excel workbook; {EXPORT_ADVICE}")
    if "word/document.xml" in names or kind.startswith(b"application/vnd.oasis.opendocument.text"):
        raise Refused("a text document; save it as plain text with the extension .txt")
    listed = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
    raise Refused(f"a zip archive ({listed or 'empty'}); {UNPACK_ADVICE}")


def text_format(suffix: str, text: str) -> InputFormat:
    """The format of a text that begins with `text`. The content decides, except between .csv and .txt.

    Args:
        suffix: the file's extension in lower case, without that of a compression; '' if there is none.
        text: the first characters.

    Raises:
        Refused: the text is none that is read, or is not what its name says.
    """
    text = text.lstrip("\ufeff \t\r\n")
    for pattern, what, advice in REFUSED_TEXT:
        if pattern.match(text):
            raise Refused(f"{what}; {advice}")
    found = _json_format(suffix, text)
    if suffix in CSV_SUFFIXES and found is not None:
        raise Refused(f"JSON, not {suffix[1:].upper()}; {JSON_NAME_ADVICE.format(suffix=f'.{found}')}")
    if found is not None:
        return found
    if suffix in JSONL_SUFFIXES:
        return InputFormat.JSONL
    if suffix == ".json":
        return InputFormat.JSON
    return InputFormat.TXT if suffix == ".txt" else InputFormat.CSV


def _json_format(suffix: str, text: str) -> InputFormat | None:
    """JSON or JSONL if the text is one of them."""
    first_line = text.split("\n", 1)[0].strip()
    if suffix == ".txt" and _value(first_line) is None and first_line not in {"[", "{"}:
        return None  # a question may begin with a bracket
    if JSON_ARRAY.match(text):
        return InputFormat.JSON
    if not JSON_OBJECT.match(text):
        return None
    if first_line == "{" or (suffix == ".json" and "\n" in text and _value(first_line) is None):
        raise _single_object(text)
    return InputFormat.JSONL


def _single_object(text: str) -> Refused:
    """The refusal of one object over several lines; a list near its beginning is taken for its rows."""
    found = re.search(r'"(\w{1,60})"\s*:\s*\[', text)
    path = f".{found[1]}[]" if found else "."
    return Refused(
        "one JSON object over several lines, not an array of objects; write its rows one per line, such as "
        f"`jq -c '{path}' FILE > questions.jsonl`"
    )


def _value(line: str) -> object | None:
    """The line's object or array; None if it holds neither, or more than it."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict | list) else None


def suffixes(path: str, compressions: frozenset[str]) -> str:
    """The extension in lower case, without that of a compression."""
    file = Path(path)
    if file.suffix.lower() in compressions:
        file = file.with_suffix("")
    return file.suffix.lower()

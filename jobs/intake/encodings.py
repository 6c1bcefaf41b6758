"""The encoding of an input: a BOM decides, else UTF-8; other encodings are proposed, never chosen.

Undecodable bytes become lone surrogates (U+DC00 plus the byte), which `encoding_fault` finds in the text.
"""

import codecs
import io
import re

from askmill.jobs.model.errors import UsageError

LONE_SURROGATE = re.compile("[\ud800-\udfff]")
"""An undecodable byte, or a character that no UTF-8 file can hold."""
BOMS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
CANDIDATES = (
    "cp1252",
    "cp1250",
    "cp1251",
    "cp1253",
    "cp1254",
    "cp1255",
    "cp1256",
    "koi8_r",
    "mac_roman",
    "cp932",
    "euc_jp",
    "gb18030",
    "big5",
    "cp949",
)
"""Encodings that are proposed: those that spreadsheets and databases write."""
PYTHON_NAMES = {"cp932": "shift_jis"}
MAX_PROPOSALS = 3
SAMPLE_CHARACTERS = 60
SAMPLE_BYTES = 1 << 16


class DecodeErrors:
    """The codec error handler, and how often it ran: text without decode errors need not be searched."""

    count = 0

    @classmethod
    def replace(cls, error: UnicodeError) -> tuple[str, int]:
        """Replace each undecodable byte by the lone surrogate U+DC00 plus the byte."""
        if not isinstance(error, UnicodeDecodeError):
            raise error
        cls.count += 1
        return "".join(chr(0xDC00 + byte) for byte in error.object[error.start : error.end]), error.end


codecs.register_error("askmill_surrogate", DecodeErrors.replace)


def codec_name(encoding: str) -> str:
    """The codec of `--encoding`. Raises UsageError if it is not one for text."""
    try:
        name = codecs.lookup(encoding).name
        io.TextIOWrapper(io.BytesIO(), name).close()
    except (LookupError, ValueError, TypeError) as error:
        raise UsageError(
            f"--encoding {encoding!r} is not a text encoding; use one such as utf-8, cp1252 or utf-16-le"
        ) from error
    return "utf-8-sig" if name == "utf-8" else name


def encoding_of(head: bytes) -> str:
    """UTF-8, or what the BOM says."""
    return next((name for bom, name in BOMS.items() if head.startswith(bom)), "utf-8")


def encoding_fault(text: str) -> str | None:
    """Why the text cannot be sent: NUL or undecodable bytes; None if it can."""
    if "\0" in text:
        return "a NUL byte; delete it, or name the file's encoding with --encoding (such as utf-16-le)"
    surrogate = LONE_SURROGATE.search(text)
    if surrogate is None:
        return None
    return (
        f"bytes that cannot be decoded (0x{ord(surrogate[0]) & 0xFF:02X}); save the file as UTF-8, "
        "or name its encoding with --encoding"
    )


def replace_undecodable(text: str) -> str:
    """The text with U+FFFD in place of undecodable bytes."""
    return LONE_SURROGATE.sub("\ufffd", text)


def proposal(sample: bytes) -> str:
    """Encodings in which the bytes may be written, each with a piece of the decoded text; '' without any.

    Args:
        sample: the lines of the file that are not UTF-8.
    """
    found = _wide_encodings(sample) or _detected(sample)
    if not found:
        return ""
    shown = " or ".join(f"{name} ({text!r})" for name, text in found.items())
    return f"It may be {shown}: take the one that reads right."


def _wide_encodings(sample: bytes) -> dict[str, str]:
    """UTF-16 without BOM: every other byte of its ASCII characters is NUL."""
    for name, zeros in (("utf-16-le", sample[1::2]), ("utf-16-be", sample[::2])):
        if zeros and zeros.count(0) > len(zeros) // 2:
            text = sample[: len(sample) // 2 * 2].decode(name, errors="replace")
            return {name: _piece(text.strip("\0"))}
    return {}


def _detected(sample: bytes) -> dict[str, str]:
    """By encoding, its reading of the sample; a reading that equals a likelier one is left out."""
    from charset_normalizer import from_bytes  # noqa: PLC0415 -- only for files that are not UTF-8

    readings: dict[str, str] = {}
    for match in from_bytes(sample, cp_isolation=list(CANDIDATES), enable_fallback=False):
        piece = _piece(str(match))
        if piece and piece not in readings.values():
            # Several code pages give the same text; Windows' own is the usual writer.
            name = "cp1252" if "cp1252" in match.could_be_from_charset else match.encoding
            readings[PYTHON_NAMES.get(name, name)] = piece
    return dict(list(readings.items())[:MAX_PROPOSALS])


def _piece(text: str) -> str:
    """The first line with a character beyond ASCII, shortened to where it stands."""
    for line in text.splitlines():
        at = next((index for index, char in enumerate(line) if ord(char) > 127), None)
        if at is not None:
            start = max(0, at - SAMPLE_CHARACTERS // 2)
            return line[start : start + SAMPLE_CHARACTERS].strip()
    return next((line[:SAMPLE_CHARACTERS] for line in text.splitlines() if line.strip()), "")

"""What a local file must be to be sent to the API: there, not empty, not too big, of a type its tool reads.

Everything here is known before anything is uploaded. Types are OpenAI's lists for its two tools ("Supported
files" of the guides on file search and on the code interpreter) and for images ("Images and vision").
"""

from collections.abc import Iterable
from pathlib import Path

MAX_FILE_BYTES = 512 * 1024 * 1024
"""A single file (openai-python: resources/files.py)."""
MAX_IMAGE_BYTES = 20 * 1024 * 1024
"""An image ("Images and vision": up to 20 MB)."""
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".gif", ".webp")
# fmt: off
SEARCHED = frozenset({
    ".c", ".cpp", ".cs", ".css", ".doc", ".docx", ".go", ".html", ".java", ".js", ".json", ".md", ".pdf",
    ".php", ".pptx", ".py", ".rb", ".sh", ".tex", ".ts", ".txt",
})
COMPUTED = SEARCHED | {
    ".csv", ".gif", ".jpeg", ".jpg", ".pkl", ".png", ".tar", ".webp", ".xlsx", ".xml", ".zip",
}
# fmt: on
READ_BY = {"file_search": SEARCHED, "code_interpreter": COMPUTED}


def readers(name: str, tools: Iterable[str]) -> tuple[str, ...]:
    """Those of the tools that read a file of this name."""
    suffix = Path(name).suffix.lower()
    return tuple(tool for tool in tools if suffix in READ_BY.get(tool, ()))


def file_fault(path: Path) -> str | None:
    """Why the API would refuse the file, whatever is to read it; None if it would not."""
    if not path.is_file():
        return f"{path}: there is no such file."
    size = path.stat().st_size
    if size == 0:
        return f"{path} is empty; the API refuses empty files."
    if size > MAX_FILE_BYTES:
        return f"{path} has {size / 2**20:.0f} MB; the API takes files up to 512 MB."
    return None


def type_fault(path: Path, tools: Iterable[str]) -> str | None:
    """Why none of the tools reads the file; None where one does, or where no tool has a say."""
    having_say = [tool for tool in tools if tool in READ_BY]
    if not having_say or readers(path.name, having_say):
        return None
    known = " ".join(sorted(frozenset[str]().union(*(READ_BY[tool] for tool in having_say))))
    return (
        f"{path}: {' and '.join(having_say)} cannot read {path.suffix or 'a file without suffix'} ({known})."
    )


def image_fault(path: Path) -> str | None:
    """Why the API would refuse the file as an image: its size, or what its first bytes are not."""
    size = path.stat().st_size
    if size > MAX_IMAGE_BYTES:
        return f"has {size / 2**20:.0f} MB; the API takes images up to 20 MB"
    with path.open("rb") as file:
        head = file.read(12)
    if head.startswith((b"\x89PNG", b"\xff\xd8\xff", b"GIF8")) or (head[:4], head[8:]) == (b"RIFF", b"WEBP"):
        return None
    return "holds no png, jpg, gif or webp image" if size else "is empty; the API refuses empty files"

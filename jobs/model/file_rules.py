"""Checks local files before upload: they exist, are not empty or too large, and a tool can read their type.

The types are OpenAI's lists for its two tools ("Supported files" in the guides on file search and code
interpreter) and for images ("Images and vision").
"""

from collections.abc import Iterable
from pathlib import Path

MAX_FILE_BYTES = 512 * 1024 * 1024
"""Of a single file (openai-python: resources/files.py)."""
MAX_IMAGE_BYTES = 20 * 1024 * 1024
"""Of an image ("Images and vision": up to 20 MB)."""
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".gif", ".webp")
# fmt: off
FILE_SEARCH_SUFFIXES = frozenset({
    ".c", ".cpp", ".cs", ".css", ".doc", ".docx", ".go", ".html", ".java", ".js", ".json", ".md", ".pdf",
    ".php", ".pptx", ".py", ".rb", ".sh", ".tex", ".ts", ".txt",
})
CODE_INTERPRETER_SUFFIXES = FILE_SEARCH_SUFFIXES | {
    ".csv", ".gif", ".jpeg", ".jpg", ".pkl", ".png", ".tar", ".webp", ".xlsx", ".xml", ".zip",
}
# fmt: on
SUFFIXES_BY_TOOL = {"file_search": FILE_SEARCH_SUFFIXES, "code_interpreter": CODE_INTERPRETER_SUFFIXES}


def tools_for_file(name: str, tools: Iterable[str]) -> tuple[str, ...]:
    """The tools among `tools` that can read a file with this name."""
    suffix = Path(name).suffix.lower()
    return tuple(tool for tool in tools if suffix in SUFFIXES_BY_TOOL.get(tool, ()))


def file_fault(path: Path) -> str | None:
    """Why the API would refuse the file, whichever tool reads it; None if it would accept it."""
    if not path.is_file():
        return f"{path}: there is no such file."
    size = path.stat().st_size
    if size == 0:
        return f"{path} is empty; the API refuses empty files."
    if size > MAX_FILE_BYTES:
        return f"{path} has {size / 2**20:.0f} MB; the API takes files up to 512 MB."
    return None


def type_fault(path: Path, tools: Iterable[str]) -> str | None:
    """Why no tool can read the file; None if one can, or if no tool restricts the types."""
    checked_tools = [tool for tool in tools if tool in SUFFIXES_BY_TOOL]
    if not checked_tools or tools_for_file(path.name, checked_tools):
        return None
    suffixes = " ".join(sorted(frozenset[str]().union(*(SUFFIXES_BY_TOOL[tool] for tool in checked_tools))))
    tool_names, suffix = " and ".join(checked_tools), path.suffix or "a file without suffix"
    return f"{path}: {tool_names} cannot read {suffix} ({suffixes})."


def image_fault(path: Path) -> str | None:
    """Why the API would refuse the file as an image: its size or its first bytes."""
    size = path.stat().st_size
    if size > MAX_IMAGE_BYTES:
        return f"has {size / 2**20:.0f} MB; the API takes images up to 20 MB"
    with path.open("rb") as file:
        if image_type(file.read(12)) is not None:
            return None
    return "is not a png, jpg, gif or webp image" if size else "is empty; the API refuses empty files"


def image_type(content: bytes) -> str | None:
    """The media type of an image that the API takes, by its first 12 bytes; None for anything else."""
    for start, media_type in (
        (b"\x89PNG", "image/png"),
        (b"\xff\xd8\xff", "image/jpeg"),
        (b"GIF8", "image/gif"),
    ):
        if content.startswith(start):
            return media_type
    return "image/webp" if (content[:4], content[8:12]) == (b"RIFF", b"WEBP") else None

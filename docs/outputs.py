"""Rewrites the outputs that pages show: `python docs/outputs.py [PAGE…]`; without PAGE, all that show some.

A page's blocks run one after the other in one shell, offline, in a fresh folder with `examples/`. Marks:

    <!-- output -->                 before a `text` block: what the block before it prints
    <!-- Ctrl-C -->                 before an `sh` block: its command is interrupted once a row has completed
    <!-- only checked: WHY -->      the block is not run; a test checks its syntax and options

`tests/cli/test_docs.py` runs the same script for each page and compares the outputs with `normalized`: ids,
times and rates differ between runs, everything else has to be the same.
"""

import os
import re
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"(?:<!-- ([^>]+) -->\n)?```(sh|python|sql|text)\n(.*?)```", re.DOTALL)
OUTPUT_MARK = "output"
INTERRUPTED_MARK = "Ctrl-C"
CHECKED_MARK = "only checked:"
IN_SHELL = {
    "sh": "{}",
    "python": "python - <<'PROGRAM'\n{}PROGRAM\n",
    "sql": "python -c 'import duckdb, sys; duckdb.sql(sys.stdin.read()).show()' <<'QUERY'\n{}QUERY\n",
}
INTERRUPTED = """set -m
{} &
until askmill status 2> /dev/null | grep -qE 'completed · [0-9]+ running'; do sleep 0.2; done
kill -INT $!
{{ wait $! || test $? -eq 130; }} 2> /dev/null
set +m
"""
SETTINGS = ("ASKMILL_", "OPENAI_", "CELERY_")
"""Names of variables that a page's commands do not inherit."""
END_LIMIT_S = 60
"""After this time, programs that a page leaves in the background are killed."""
END_OF_BLOCK = "=== end of block {} ==="
PROGRESS_LINE = re.compile(r"^b_\w+: [\d,]+ of [\d,]+ · .*\n", re.MULTILINE)
"""Printed every ten seconds where there is no terminal; a terminal shows a panel, which goes away."""
VARIABLE = (
    (re.compile(r"\bb_[a-z0-9]+"), "b_…"),
    (re.compile(r"\b(conv|resp|msg|run|thread|asst|chatcmpl)[_-]\w+"), r"\1_…"),
    (re.compile(r"\d{4}-\d\d-\d\d( |T)\d\d:\d\d:\d\d\S*"), "TIME"),
    (re.compile(r"[\d,.]+ (s|ms|min|h)\b"), r"N \1"),
    (re.compile(r"[\d,.]+ (rows/\w+|requests)"), r"N \1"),
    (re.compile(r": \d+ of (\d+) rows have ended"), r": N of \1 rows have ended"),
    (re.compile(r"\bnow$", re.MULTILINE), "N min"),
    (re.compile(r"[█▓▒░]+"), "BAR"),
    (re.compile(r"(:)\d{4,5}\b"), r"\1PORT"),
    (re.compile(r"token=\w+"), "token=…"),
    (re.compile(r"[-─]{3,}"), "---"),
    (re.compile(r"[ \t]+"), " "),
)


@dataclass(frozen=True)
class Block:
    """A fenced block. `mark` is the comment before it; `start` and `end` delimit its text in the page."""

    mark: str
    language: str
    text: str
    start: int
    end: int

    @property
    def runs(self) -> bool:
        return self.language in IN_SHELL and not self.mark.startswith(CHECKED_MARK)

    @property
    def is_output(self) -> bool:
        return self.mark == OUTPUT_MARK

    @property
    def script(self) -> str:
        text = IN_SHELL[self.language].format(self.text)
        return INTERRUPTED.format(text.strip()) if self.mark == INTERRUPTED_MARK else text


def blocks(text: str) -> list[Block]:
    """Return the fenced blocks of a page, in their order."""
    return [
        Block(found[1] or "", found[2], found[3], found.start(3), found.end(3))
        for found in BLOCK.finditer(text)
    ]


def script(page: list[Block]) -> str:
    """Return one shell script that runs the page and prints a line at the end of each block."""
    lines = ["set -euo pipefail"]
    for number, block in enumerate(page):
        if block.runs:
            lines += [block.script.rstrip("\n"), f"echo '{END_OF_BLOCK.format(number)}'"]
    return "\n".join(lines) + "\n"


def outputs(page: list[Block], printed: str) -> dict[int, str]:
    """Return the text for each output block, by its number, from all that the page's script has printed."""
    by_block: dict[int, str] = {}
    for number, block in enumerate(page):
        if block.runs:
            output, _, printed = printed.partition(END_OF_BLOCK.format(number) + "\n")
            by_block[number] = output
    shown: dict[int, str] = {}
    for number, block in enumerate(page):
        if block.is_output:
            shown[number] = by_block[max(earlier for earlier in by_block if earlier < number)]
    return {number: _tidied(text) for number, text in shown.items()}


def _tidied(text: str) -> str:
    """Without progress lines, and with one empty line where there are more."""
    return re.sub(r"\n{3,}", "\n\n", PROGRESS_LINE.sub("", text)).strip("\n") + "\n"


def normalized(text: str) -> str:
    """Return the text with a placeholder for each id, time, rate, bar and port, and with single blanks."""
    text = PROGRESS_LINE.sub("", text)
    for pattern, placeholder in VARIABLE:
        text = pattern.sub(placeholder, text)
    return "\n".join(line.strip() for line in text.strip().splitlines())


def run(text: str, folder: Path, programs: str = "", limit_s: float | None = None) -> tuple[int, str]:
    """Run a page's script in this empty folder, and end what it leaves in the background.

    Args:
        text: as `script` returns it.
        folder: gets `work`, where the script runs, beside the data folder of askmill.
        programs: folders to search for programs first, with colons between them.
        limit_s: raises subprocess.TimeoutExpired after so many seconds.

    Returns:
        The exit code and what was printed.
    """
    work = folder / "work"
    work.mkdir()
    (work / "examples").symlink_to(ROOT / "examples")
    bare = {name: value for name, value in os.environ.items() if not name.startswith(SETTINGS)}
    path = [programs, str(Path(sys.executable).parent), bare["PATH"]]
    settings = {
        "ASKMILL_DATA_DIR": str(folder / "data"),
        "COLUMNS": "100",
        "PATH": ":".join(filter(None, path)),
    }
    with (folder / "output").open("w+") as output:
        shell = subprocess.Popen(
            ["bash", "-c", text],
            cwd=work,
            env=bare | settings,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        try:
            code = shell.wait(limit_s)
        finally:
            _end_group(shell.pid)
        output.seek(0)
        return code, output.read().replace(str(work), "/home/me")


def _end_group(group: int) -> None:
    """End a group's processes and wait for them: an ending worker still writes to the next page's Redis."""
    members = [process for process in psutil.process_iter() if _group(process.pid) == group]
    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGTERM)
        _, left = psutil.wait_procs(members, timeout=END_LIMIT_S)
        if left:
            os.killpg(group, signal.SIGKILL)


def _group(process: int) -> int | None:
    with suppress(ProcessLookupError):
        return os.getpgid(process)
    return None


def rewrite(file: Path) -> None:
    """Replace the outputs of one page by those of a new run. Raises SystemExit if a command fails."""
    text = file.read_text(encoding="utf-8")
    page = blocks(text)
    with tempfile.TemporaryDirectory() as folder:
        code, printed = run(script(page), Path(folder))
    if code:
        raise SystemExit(f"exit code {code}:\n{printed[-3000:]}")
    for number, output in sorted(outputs(page, printed).items(), reverse=True):
        text = text[: page[number].start] + output + text[page[number].end :]
    file.write_text(text, encoding="utf-8")


def main() -> None:
    """Rewrite the named pages, or all that show outputs."""
    named = [Path(argument) for argument in sys.argv[1:]]
    mark = f"<!-- {OUTPUT_MARK} -->\n"
    for file in named or sorted((ROOT / "docs").rglob("*.md")):
        if named or mark in file.read_text(encoding="utf-8"):
            rewrite(file)
            print(f"{file}: rewritten")  # noqa: T201 -- a program


if __name__ == "__main__":
    main()

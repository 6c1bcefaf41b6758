"""The documentation is correct: every command and program is run, every option is documented, no link is dead.

The blocks of a page run one after the other in one shell, in a fresh folder with `examples/` in it; Python blocks are
separate programs, SQL blocks run in DuckDB. docs/outputs.py has the marks before blocks: which output is compared,
which command is interrupted, and which block is not run. Of that the syntax and the askmill options are checked.
"""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from askmill.jobs.cli.root import MODULE_OF, askmill
from askmill.jobs.local.ports import free_port
from docs import outputs
from tests.helpers import preloaded

ROOT = Path(__file__).parents[2]
PAGES = [*sorted((ROOT / "docs").rglob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
PROGRAM = re.compile(r"<<'PROGRAM'\n(.*?)PROGRAM$", re.DOTALL | re.MULTILINE)
COMMAND = re.compile(r"""(?:^|[\s(/])askmill ((?:'[^']*'|"[^"]*"|[^|&;)'"])*)""")
"""Up to the end of the command; a pipe in quotes is part of it."""
LINK = re.compile(r"\]\((?!https?:|mailto:)([^)\s]+)\)")
CHECKED_ONLY = {"README.md", "CONTRIBUTING.md"}
"""The first two commands of README are tested by .ci/run and tests/cli/test_readme.py; the rest needs a key."""
LIMIT_S = 300


def _name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def _blocks(page: Path, *, run: bool) -> list[outputs.Block]:
    blocks = [block for block in outputs.blocks(page.read_text(encoding="utf-8")) if block.language != "text"]
    return [block for block in blocks if (block.runs and page.name not in CHECKED_ONLY) == run]


def _with(run: bool) -> list[str]:
    return [_name(page) for page in PAGES if _blocks(page, run=run)]


def _commands(script: str) -> Iterator[list[str]]:
    """The words of each askmill command, also of those inside `$( )`."""
    for line in script.replace("\\\n", " ").splitlines():
        for found in COMMAND.finditer(line.split(" #")[0]):
            words = shlex.split(re.split(r"(?:^|\s)\d?[<>]", found[1])[0])
            if words and words[0].isalpha():
                yield words


def _parse(words: list[str]) -> None:
    """Raise click's UsageError for a command or an option that does not exist."""
    context = click.Context(askmill)
    command = askmill.get_command(context, words[0])
    assert command is not None, f"there is no command {words[0]}"
    command.make_context(words[0], [word for word in words[1:] if word != "--help"], resilient_parsing=False)


@pytest.mark.checks
@pytest.mark.timeout(LIMIT_S + 30)
@pytest.mark.parametrize("page", _with(run=True))
def test_every_command_of_a_page_runs(page: str, tmp_path: Path, redis_url: str) -> None:
    """Exactly as written except for the ports, so that it works for a reader who types it; outputs are as shown."""
    shown = outputs.blocks((ROOT / page).read_text(encoding="utf-8"))
    script = outputs.script(shown)
    ports = {"6379": redis_url.rsplit(":", maxsplit=1)[-1].split("/", maxsplit=1)[0]}
    for port in ("8080", "5555", "9464", "4318", "8765"):
        ports[port] = str(free_port())
    for port, free in ports.items():
        script = script.replace(f":{port}", f":{free}").replace(f"port {port}", f"port {free}")
        script = script.replace(f"port={port}", f"port={free}").replace(f"PORT={port}", f"PORT={free}")
    code, printed = outputs.run(script, tmp_path, str(preloaded.shell_folder()), LIMIT_S)
    assert code == 0, printed[-3000:]
    for number, text in outputs.outputs(shown, printed).items():
        assert outputs.normalized(text) == outputs.normalized(shown[number].text), "python docs/outputs.py"


@pytest.mark.parametrize("page", _with(run=False))
def test_commands_that_cannot_run_here_have_valid_syntax_and_options(page: str) -> None:
    """Those that need a key, containers or an installation: the shell parses them, commands and options exist."""
    for block in _blocks(ROOT / page, run=False):
        script = outputs.IN_SHELL[block.language].format(block.text)
        subprocess.run(["bash", "-n"], input=script, text=True, check=True)
        for program in PROGRAM.findall(script):
            compile(program, page, "exec")
        for words in _commands(script):
            _parse(words)


def test_every_option_is_in_the_documentation() -> None:
    """Each option of each command is on a page, so that nobody has to read the code for it."""
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    context = click.Context(askmill)
    for name in MODULE_OF:
        command = askmill.get_command(context, name)
        assert command is not None
        assert f"## askmill {name}\n" in text
        for opt in (opt for parameter in command.params for opt in parameter.opts if opt.startswith("--")):
            assert opt in text, f"{name} {opt}"


def test_the_reference_is_up_to_date() -> None:
    """`python docs/remake.py` was run after the last change of a command, a setting, a status or a column."""
    command = [sys.executable, str(ROOT / "docs" / "remake.py"), "--check"]

    check = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)

    assert check.returncode == 0, check.stdout + check.stderr


def test_every_command_is_recorded() -> None:
    """`python docs/record.py` shows each of them; of servers and workers it shows the help."""
    shown = set(
        re.findall(r"^## askmill (\w+)", (ROOT / "docs/reference/screens.md").read_text(), re.MULTILINE)
    )

    assert set(MODULE_OF) <= shown


def _anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", [_name(page) for page in PAGES])
def test_no_link_is_dead(page: str) -> None:
    """Each link to a file or a heading of the repository has a target."""
    here = ROOT / page
    for link in LINK.findall(here.read_text(encoding="utf-8")):
        path, _, anchor = link.partition("#")
        target = (here.parent / path) if path else here
        assert target.exists(), f"{page}: {link}"
        if anchor and target.suffix == ".md":
            assert anchor in _anchors(target), f"{page}: {link}"


def test_the_index_links_every_page() -> None:
    """A reader finds each page of `docs/` from the index, and the site's menu has each of them."""
    docs = ROOT / "docs"
    pages = {str(page.relative_to(docs)) for page in docs.rglob("*.md")} - {"index.md"}
    linked = {
        link.partition("#")[0] for link in LINK.findall((docs / "index.md").read_text(encoding="utf-8"))
    } - {f"images/{picture.name}" for picture in (docs / "images").iterdir()}
    menu = set(re.findall(r"[\w/.-]+\.md", (ROOT / "mkdocs.yml").read_text(encoding="utf-8")))

    assert pages == linked
    assert pages | {"index.md"} == menu


@pytest.mark.parametrize(
    "need",
    [
        "half the price",
        "local model",
        "typed columns",
        "compare two models",
        "every night",
        "kubernetes",
        "a page to watch",
        "budget",
        "after a crash",
    ],
)
def test_the_index_has_each_need(need: str) -> None:
    """In the words of somebody who looks for it, with a link to the page."""
    lines = (ROOT / "docs" / "index.md").read_text(encoding="utf-8").casefold().splitlines()

    assert any(need in line and "](how-to/" in line for line in lines)


def test_an_output_that_has_changed_is_noticed() -> None:
    """Ids, times and rates may differ; counts, words and statuses may not."""
    shown = "b_7hq2m9 done: 18 completed · in 0.6 s · 18 runs → /home/me/a.csv"

    assert outputs.normalized(shown) == outputs.normalized(
        shown.replace("7hq2m9", "0t3k1d").replace("0.6", "12")
    )
    for was, now in (("18 completed", "17 completed"), ("18 runs", "19 runs"), ("done", "paused")):
        assert outputs.normalized(shown) != outputs.normalized(shown.replace(was, now))


def test_the_documentation_names_files_and_functions_that_exist() -> None:
    """Each source file, test, example and long name that a page shows; tests may be named without their folder."""
    rooms = "askmill|benchmarks|config|emulator|examples|jobs|tests|worker"
    tests = {path.name for path in (ROOT / "tests").rglob("test_*.py")}
    sources = [path for room in rooms.split("|")[1:] for path in (ROOT / room).rglob("*.py")]
    code = "\n".join(path.read_text(encoding="utf-8") for path in sources)
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for name in re.findall(rf"`((?:{rooms})/[\w./]*)`", text):
            assert (ROOT / name).exists(), f"{_name(page)}: {name}"
        for name in re.findall(r"`(test_\w+\.py)`", text):
            assert name in tests, f"{_name(page)}: {name}"
        # Four words or more: shorter ones may be another program's, and metrics are put together from parts.
        for name in re.findall(r"`((?!askmill_)[a-z]+(?:_[a-z0-9]+){3,})`", text):
            assert name in code, f"{_name(page)}: {name}"


def test_the_watch_page_quotes_the_progress_panel() -> None:
    """Each term in the table of docs/how-to/watch.md is in the text of the panel."""
    page = (ROOT / "docs" / "how-to" / "watch.md").read_text(encoding="utf-8")
    panel = (ROOT / "jobs" / "display" / "status_text.py").read_text(encoding="utf-8")

    quoted = re.findall(r"^\| `([^`]+)` \|", page, re.MULTILINE)
    parts = [part.strip("( )/") for term in quoted for part in re.split(r"…|\d+ to \d+ \w+", term)]

    assert len(quoted) >= 6
    assert [part for part in parts if part not in panel] == []


def test_the_architecture_names_what_exists() -> None:
    """Each class, function, method and Lua script that the page names is defined, and where the page says so."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    files = {
        str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
        for room in ("config", "jobs", "worker", "emulator", "web")
        for path in (ROOT / room).rglob("*.py")
    }
    code = "\n".join(files.values())
    scripts = {path.name for path in (ROOT / "jobs" / "store" / "lua").rglob("*.lua")}

    functions = re.findall(r"`(?:[A-Z]\w+\.)?(_?[a-z]\w*)\(\)`|`[A-Z]\w+\.(_?[a-z]\w*)`", text)
    for name in filter(None, (called or method for called, method in functions)):
        assert re.search(rf"\bdef {name}\(", code), name
    for name in re.findall(r"`([A-Z][a-z]\w+)(?:\.\w+)?`", text):
        assert re.search(rf"^class {name}\b", code, re.MULTILINE), name
    for name in re.findall(r"`([A-Z_]{4,})`", text):
        assert re.search(rf"^ *{name}\b", code, re.MULTILINE), name
    for name in re.findall(r"`(\w+\.lua)`", text):
        assert name in scripts, name
    for name in re.findall(r"`(_[a-z]\w*)`", text):
        assert f"def {name}(" in code, name
    for name, file in re.findall(r"`(?:[A-Z]\w+\.)?(\w+)(?:\(\))?` \(`([\w/]+\.py)`\)", text):
        content = "\n".join(each for path, each in files.items() if f"/{path}".endswith(f"/{file}"))
        defined = rf"^ *(?:(?:async )?def|class) {name}\b|^{name}\b"
        assert re.search(defined, content, re.MULTILINE), f"{name} in {file}"

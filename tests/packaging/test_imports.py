"""The import package: what tools see of it, what imports what, and that no import goes in a circle."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grimp
import pytest
from mypy.main import process_options

ROOT = Path(__file__).parents[2]
PACKAGES = ("config", "emulator", "jobs", "web", "worker")


def _modules() -> Iterator[Path]:
    for package in ("askmill", *PACKAGES):
        yield from (ROOT / package).rglob("*.py")


def test_mypy_checks_every_module(monkeypatch: pytest.MonkeyPatch) -> None:
    """`mypy` without arguments follows the links in `askmill/` to all folders."""
    monkeypatch.chdir(ROOT)
    sources, _ = process_options([])

    files = {source.path for source in sources if source.path is not None and source.path.endswith(".py")}
    assert len(files) == len(list(_modules()))


def _imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module or ""


def test_nothing_imports_a_folder_of_ours_by_its_bare_name() -> None:
    """`config`, `emulator`, `jobs` and `worker` are somebody else's packages: ours are below `askmill`."""
    folders = ("askmill", *PACKAGES, "tests", "benchmarks", "examples", "docs")
    files = [
        path for folder in folders for path in (ROOT / folder).rglob("*.py") if ".venvs" not in path.parts
    ]
    found = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in files
        for name in _imported(path)
        if name.split(".")[0] in PACKAGES
    ]

    assert found == []


def _circles(graph: grimp.ImportGraph) -> list[list[str]]:
    """The strongly connected components of more than one module (Tarjan's algorithm, without recursion)."""
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    circles = []
    for root in sorted(graph.modules):
        if root in order:
            continue
        work = [(root, iter(sorted(graph.find_modules_directly_imported_by(root))))]
        order[root] = low[root] = len(order)
        stack.append(root)
        while work:
            module, imported = work[-1]
            for found in imported:
                if found not in order:
                    order[found] = low[found] = len(order)
                    stack.append(found)
                    work.append((found, iter(sorted(graph.find_modules_directly_imported_by(found)))))
                    break
                if found in stack:
                    low[module] = min(low[module], order[found])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[module])
                if low[module] == order[module]:
                    at = stack.index(module)
                    circle, stack[at:] = stack[at:], []
                    if len(circle) > 1:
                        circles.append(sorted(circle))
    return circles


def test_no_imports_go_in_a_circle() -> None:
    """Any module can be imported first, and understood without the module that imports it."""
    graph = grimp.build_graph("askmill", cache_dir=None, exclude_type_checking_imports=True)

    assert len(graph.modules) > 200
    assert _circles(graph) == []


@pytest.mark.parametrize("module", ["askmill", "askmill.worker.celery", "askmill.emulator"])
def test_a_bare_import_needs_no_settings(module: str, tmp_path: Path) -> None:
    """In an empty folder, in an empty environment."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", f"import {module}"],
        cwd=tmp_path,
        env={},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr

"""What is published: a wheel that installs one package beside any other, and an sdist with everything to build from."""

import csv
import re
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("config", "emulator", "jobs", "web", "worker")
LIMIT_S = 300
NAMESAKE = "config-0.0.0-py3-none-any.whl"


@dataclass(frozen=True)
class Built:
    """What `python -m build` makes of the files of HEAD."""

    wheel: Path
    sdist: Path


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    folder = tmp_path_factory.mktemp("build")
    source, out = folder / "source", folder / "dist"
    source.mkdir()
    archive = subprocess.run(["git", "archive", "HEAD"], cwd=ROOT, capture_output=True, check=True).stdout
    subprocess.run(["tar", "-x", "-C", source], input=archive, check=True)
    _python("-m", "build", "--no-isolation", "--outdir", out, source)
    (wheel,), (sdist,) = out.glob("*.whl"), out.glob("*.tar.gz")
    return Built(wheel, sdist)


def _python(*arguments: str | Path) -> None:
    command = [sys.executable, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def namesake(tmp_path: Path) -> Path:
    """The wheel of another distribution with a package named `config`."""
    wheel = tmp_path / NAMESAKE
    files = {
        "config/__init__.py": "OWNER = 'another distribution'\n",
        "config/settings.py": "",
        "config-0.0.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: config\nVersion: 0.0.0\n",
        "config-0.0.0.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{name},,\n" for name in [*files, "config-0.0.0.dist-info/RECORD"])
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, text in {**files, "config-0.0.0.dist-info/RECORD": record}.items():
            archive.writestr(name, text)
    return wheel


@pytest.mark.checks
def test_the_wheel_has_one_top_level_package(built: Built) -> None:
    """Nothing but `askmill` and its metadata; the data files are in it, the tests are not."""
    with zipfile.ZipFile(built.wheel) as wheel:
        names = wheel.namelist()
    packages = {name.split("/")[0] for name in names}

    assert {name for name in packages if not name.endswith(".dist-info")} == {"askmill"}
    for file in ("py.typed", "jobs/cli/help.txt", "jobs/display/report.css", "jobs/store/result.zdict"):
        assert f"askmill/{file}" in names
    scripts = {path.name for path in (ROOT / "jobs" / "store" / "lua").rglob("*.lua")}
    assert {Path(name).name for name in names if name.endswith(".lua")} == scripts
    modules = {str(path.relative_to(ROOT)) for path in _modules()}
    assert {name.removeprefix("askmill/") for name in names if name.endswith(".py")} == {
        name.removeprefix("askmill/") for name in modules
    }


def _modules() -> Iterator[Path]:
    for package in ("askmill", *PACKAGES):
        yield from (ROOT / package).rglob("*.py")


@pytest.mark.checks
def test_the_sdist_has_what_a_packager_needs(built: Built) -> None:
    """Examples, docs, tests and the change log."""
    with tarfile.open(built.sdist) as sdist:
        members = {name.split("/", 1)[1] for name in sdist.getnames() if "/" in name}

    for file in ("CHANGELOG.md", "LICENSE", "README.md", "pyproject.toml", "mkdocs.yml"):
        assert file in members
    for folder in ("examples", "docs", "tests"):
        tracked = subprocess.run(
            ["git", "ls-files", folder], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.splitlines()
        assert [name for name in tracked if name not in members] == []


@pytest.mark.checks
@pytest.mark.parametrize("ours_first", [True, False], ids=["askmill first", "config first"])
def test_another_distributions_package_config_stays_whole(
    built: Built, namesake: Path, tmp_path: Path, ours_first: bool
) -> None:
    """Installed beside it in either order, and removed by RECORD: its files are as before."""
    site = tmp_path / "site"
    wheels = [built.wheel, namesake] if ours_first else [namesake, built.wheel]
    for wheel in wheels:
        _python("-m", "pip", "install", "--no-deps", "--quiet", "--upgrade", "--target", site, wheel)
    before = {path: path.read_bytes() for path in (site / "config").rglob("*.py")}
    assert [path.name for path in sorted(before)] == ["__init__.py", "settings.py"]
    assert (site / "askmill" / "config" / "settings.py").is_file()

    (record,) = site.glob("askmill-*.dist-info/RECORD")
    for name, *_ in csv.reader(record.read_text(encoding="utf-8").splitlines()):
        (site / name).unlink(missing_ok=True)

    assert {path: path.read_bytes() for path in (site / "config").rglob("*.py")} == before
    assert not list((site / "askmill").rglob("*.py"))


@pytest.mark.checks
def test_the_console_script_is_a_function_that_exists(built: Built) -> None:
    """`askmill` starts what the entry point names."""
    from importlib.metadata import EntryPoint  # noqa: PLC0415

    with zipfile.ZipFile(built.wheel) as wheel:
        (entry_points,) = [name for name in wheel.namelist() if name.endswith("entry_points.txt")]
        text = wheel.read(entry_points).decode()
    name, value = (part.strip() for part in text.split("\n")[1].split("="))

    assert name == "askmill"
    assert callable(EntryPoint(name, value, "console_scripts").load())


def test_the_licence_of_every_pinned_package_is_listed() -> None:
    """`python docs/licences.py` was run after the last change of requirements.txt."""
    pinned = re.findall(r"^([A-Za-z0-9_.-]+)==", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    page = (ROOT / "docs" / "reference" / "licences.md").read_text(encoding="utf-8")

    assert len(pinned) > 40
    assert [name for name in pinned if f"| {name} |" not in page] == []

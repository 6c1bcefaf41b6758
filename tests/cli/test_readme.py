"""The README's two commands: the second is what .ci/run runs, the first is a test of its own here."""

from pathlib import Path

from click.testing import CliRunner

from askmill.jobs.cli.root import askmill

ROOT = Path(__file__).parents[2]


def _commands() -> list[str]:
    """The one-line blocks of the README that begin with an environment of their own."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return [line for line in text.splitlines() if line.startswith("python3 -m venv")]


def test_the_test_command_is_what_ci_runs() -> None:
    """Word for word: what a newcomer copies is what is known to work."""
    _, second = _commands()

    assert second in (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()


def test_the_demo_command_installs_and_runs_one_askmill_command() -> None:
    """Its last part is a command that exists, with the options it names, on a file that is there."""
    first, _ = _commands()
    made, installed, demo = first.split(" && ")

    assert made == "python3 -m venv .venv"
    assert installed == ".venv/bin/pip install -q ."
    assert demo.startswith(".venv/bin/askmill run examples/questions.csv --offline")
    assert (ROOT / "examples" / "questions.csv").is_file()
    shown = CliRunner().invoke(askmill, [*demo.split()[1:], "--help"])
    assert shown.exit_code == 0


def test_the_readme_fits_a_screen_and_a_half() -> None:
    """Whatever needs more space is in the documentation, which the README links."""
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 100

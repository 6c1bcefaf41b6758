"""Certificates that the environment names are checked, and a bad value is named (case A18)."""

from pathlib import Path

import pytest
import trustme

from askmill.config.settings import BadSetting
from askmill.config.tls import VARIABLES, tls_context
from askmill.jobs.openai_client.client import make_client
from tests.helpers.command_line import terminal


@pytest.mark.parametrize("name", VARIABLES)
@pytest.mark.parametrize("kind", ["missing", "wrong"])
def test_a_bad_value_is_told_with_its_variable(
    name: str, kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Case A18: no file, a folder for a file, or no certificates in it: one sentence, and what to do."""
    value = tmp_path / "gone" / "x.pem"
    if kind == "wrong":
        value = tmp_path / "notes.txt"
        if name == "SSLKEYLOGFILE":
            value.mkdir()
        else:
            value.write_text("no certificate")
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    if name == "SSLKEYLOGFILE":  # read only beside one of the others
        trustme.CA().cert_pem.write_to_path(tmp_path / "ca.pem")
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    monkeypatch.setenv(name, str(value))
    with pytest.raises(BadSetting, match=rf"{name}.*{value.name}") as error:
        make_client("key", "https://api.example.com/v1")
    assert f"Unset {name}" in str(error.value)


def test_good_values_are_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Several folders, and an empty value, which counts as unset."""
    monkeypatch.setenv("SSL_CERT_FILE", "")
    monkeypatch.setenv("SSL_CERT_DIR", f"{tmp_path}:{tmp_path}")
    assert tls_context().check_hostname


def test_every_command_that_asks_an_api_names_the_variable(tmp_path: Path) -> None:
    """Case A18: before anything is stored or claimed, with exit code 2; without TLS nothing is read."""
    user = terminal(tmp_path).with_settings(
        OPENAI_API_KEY="any", OPENAI_BASE_URL="https://127.0.0.1:9/v1", SSL_CERT_FILE="/gone/ca.pem"
    )
    user.write("q.csv", "question", "What is 1 + 1?")
    for command in (("run", "q.csv"), ("doctor",), ("chat",), ("worker",)):
        done = user.askmill(*command, stdin="")
        words = done.stdout + done.stderr
        assert done.returncode == 2, (command, words)
        assert "SSL_CERT_FILE names no file: /gone/ca.pem. Unset SSL_CERT_FILE" in words, command
        assert "Traceback" not in words
    assert "b_" not in user.askmill("list").stdout
    done = user.askmill("run", "q.csv", "--offline")
    assert done.returncode == 0, done.stderr

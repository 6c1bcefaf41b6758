"""Certificates that the environment names are checked, and a bad value is named (case A18)."""

from pathlib import Path

import pytest

from askmill.config.settings import BadSetting
from askmill.config.tls import tls_context
from askmill.jobs.openai_client.client import make_client


@pytest.mark.parametrize("name", ["SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE"])
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
    monkeypatch.setenv(name, str(value))
    with pytest.raises(BadSetting, match=rf"{name}.*{value.name}") as error:
        make_client("key", "https://api.example.com/v1")
    assert f"Unset {name}" in str(error.value)


def test_good_values_are_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Several folders, and an empty value, which counts as unset."""
    monkeypatch.setenv("SSL_CERT_FILE", "")
    monkeypatch.setenv("SSL_CERT_DIR", f"{tmp_path}:{tmp_path}")
    assert tls_context().check_hostname

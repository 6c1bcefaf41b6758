"""The warning about a key that would be sent without encryption."""

import pytest
from pydantic import SecretStr

from askmill.jobs.model.api_target import Target


@pytest.mark.parametrize(
    ("base_url", "warned"),
    [
        ("http://192.168.1.2:8000/v1", True),
        ("HTTP://gpu.example.com/v1", True),
        ("http://ollama:11434/v1", True),
        ("http://gpu.local/v1", True),
        ("http://localhost.evil.com/v1", True),
        ("https://gpu.example.com/v1", False),
        ("https://192.168.1.2/v1", False),
        ("http://localhost:8000/v1", False),
        ("http://127.0.0.1:8000/v1", False),
        ("http://[::1]:8000/v1", False),
    ],
)
def test_warning_about_a_key_over_http(base_url: str, warned: bool) -> None:
    """One line with the address, without the key; no warning without a key or for the emulator."""
    target = Target("responses", base_url, SecretStr("sk-0123456789"), offline=False)

    warning = target.unencrypted_key_warning

    assert (warning is not None) == warned
    if warning is not None:
        assert base_url in warning
        assert "\n" not in warning
        assert "0123456789" not in warning
    assert Target("responses", base_url, None, offline=False).unencrypted_key_warning is None
    assert Target("responses", base_url, SecretStr("offline"), offline=True).unencrypted_key_warning is None

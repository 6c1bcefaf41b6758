"""Local addresses (which need no key) are recognised by the URL's text alone."""

import socket

import pytest

from askmill.config.local_address import is_local, is_loopback

LOOPBACK = [
    "http://127.0.0.1:8000/v1",
    "http://127.9.9.9/v1",
    "http://[::1]:8080/v1",
    "http://[0:0:0:0:0:0:0:1]/v1",
    "http://[::ffff:127.0.0.1]/v1",
    "http://localhost:11434/v1",
    "HTTP://LOCALHOST/v1",
    "http://localhost./v1",
    "http://me:secret@localhost:1/v1",
    "http://evil.com@localhost/v1",
]
LOCAL = [
    "http://10.0.0.1/v1",
    "http://10.255.255.255/v1",
    "http://172.16.0.1/v1",
    "http://172.31.255.254:8000/v1",
    "https://192.168.178.20/v1?api-version=1",
    "http://[fd00::1]/v1",
    "http://[FC00::1]:8000/v1",
    "http://[::ffff:10.0.0.1]/v1",
    "http://ollama:11434/v1",
    "http://OLLAMA/v1",
    "http://my_service-2:8000",
    "http://gpu.local/v1",
    "http://gpu.local./v1",
    "http://GPU.Rack.Internal:8000/v1",
    "http://metadata.google.internal/v1",
]
ELSEWHERE = [
    "https://api.openai.com/v1",
    "http://10.0.0.1.evil.com/v1",
    "http://127.0.0.1.evil.com/v1",
    "http://localhost.evil.com/v1",
    "http://localhost.com/v1",
    "http://evil.com/localhost",
    "http://evil.com#.local",
    "http://evil.com?.local",
    "http://evil.com:80/.internal",
    "http://localhost@evil.com/v1",
    "http://10.0.0.1:80@evil.com/v1",
    "http://gpu.local.evil.com/v1",
    "http://evillocal.com/v1",
    "http://notlocal.internal.com/v1",
    "http://9.255.255.255/v1",
    "http://11.0.0.1/v1",
    "http://172.15.255.255/v1",
    "http://172.32.0.1/v1",
    "http://192.167.0.1/v1",
    "http://192.169.0.1/v1",
    "http://128.0.0.1/v1",
    "http://169.254.169.254/v1",
    "http://100.64.0.1/v1",
    "http://0.0.0.0:8000/v1",
    "http://8.8.8.8/v1",
    "http://[2001:db8::1]/v1",
    "http://[fe80::1]/v1",
    "http://[fd00::1%25eth0]/v1",
    "http://[fe00::1]/v1",
    "http://[::]/v1",
    "http://[::ffff:8.8.8.8]/v1",
    "http://[::1/v1",
    # Other spellings of an address: a resolver may read any of them as a public one.
    "http://0x7f000001/v1",
    "http://0x08080808/v1",
    "http://2130706433/v1",
    "http://134744072/v1",
    "http://127.1/v1",
    "http://10.1/v1",
    "http://010.0.0.1/v1",
    "http://0x7f.1/v1",
    "http://10.0.0.1./v1",
    "http://10.0.0.256/v1",
    "http://10.0.0/v1",
    "http://10..0.1/v1",
    # A name of one label with a trailing dot is a top-level domain.
    "http://ai./v1",
    "http://ollama../v1",
    "http://..local/v1",
    "http://.local/v1",
    # Not ASCII: IDNA turns the ideographic full stop into a dot.
    "http://evil\u3002com/v1",
    "http://evil\uff0ecom/v1",
    "http://evil%2ecom/v1",
    "http://evil.com\\.local/v1",
    "http://ollama /v1",
    "http:///v1",
    "http://",
    "",
]


@pytest.fixture(autouse=True)
def _no_dns(monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(*_: object, **__: object) -> None:
        raise AssertionError("DNS was asked")

    for name in ("getaddrinfo", "gethostbyname", "gethostbyaddr", "gethostbyname_ex"):
        monkeypatch.setattr(socket, name, ask)


@pytest.mark.parametrize("url", LOOPBACK)
def test_loopback_is_local_and_on_this_machine(url: str) -> None:
    """Loopback addresses and `localhost`, in every unambiguous spelling."""
    assert is_local(url)
    assert is_loopback(url)


@pytest.mark.parametrize("url", LOCAL)
def test_an_address_of_this_network_is_local_but_not_loopback(url: str) -> None:
    """Private and unique local addresses, names with one label, `.local` and `.internal`."""
    assert is_local(url)
    assert not is_loopback(url)


@pytest.mark.parametrize("url", ELSEWHERE)
def test_other_and_ambiguous_hosts_are_not_local(url: str) -> None:
    """Names that only look local, unusual spellings of IP addresses, invalid URLs."""
    assert not is_local(url)
    assert not is_loopback(url)

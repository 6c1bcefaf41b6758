"""Where an address leads, decided by its text: no name is resolved, since DNS may say anything. Pure."""

import re
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from urllib.parse import urlsplit

LOOPBACK = (IPv4Network("127.0.0.0/8"), IPv6Network("::1/128"))
PRIVATE = (
    IPv4Network("10.0.0.0/8"),
    IPv4Network("172.16.0.0/12"),
    IPv4Network("192.168.0.0/16"),
    IPv6Network("fc00::/7"),
)
"""RFC 1918 and unique local addresses (RFC 4193). Link-local ones are not among them: 169.254.169.254 serves
the credentials of cloud machines."""
LOCAL_DOMAINS = (".local", ".internal")
HOST_NAME = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*")
"""ASCII only: IDNA turns `evil\u3002com`, which has no dot here, into `evil.com`."""
NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
"""A host whose last label is a number is an address to every resolver (WHATWG URL, "ends in a number"), and
`0x08080808` or `010.0.0.1` is not the one that it seems to be."""


def is_local(url: str) -> bool:
    """Whether the server is on this machine or in this network, so that it needs no key.

    Loopback, private and unique local addresses, `localhost`, names of one label (`ollama`), and names under
    `.local` and `.internal`.
    """
    host = _host(url)
    if isinstance(host, str):
        return bool(host) and ("." not in host or host.endswith(LOCAL_DOMAINS))
    return host is not None and any(host in network for network in (*LOOPBACK, *PRIVATE))


def is_loopback(url: str) -> bool:
    """Whether the server is on this machine: what is sent to it passes no network."""
    host = _host(url)
    if isinstance(host, str):
        return host == "localhost"
    return host is not None and any(host in network for network in LOOPBACK)


def _host(url: str) -> IPv4Address | IPv6Address | str | None:
    """The host as an address or a lower-case name; None for one that is neither beyond doubt."""
    try:
        text = (urlsplit(url).hostname or "").lower()
    except ValueError:  # brackets that do not close
        return None
    try:
        address = ip_address(text)
    except ValueError:
        return _name(text)
    if isinstance(address, IPv6Address):
        return None if address.scope_id else address.ipv4_mapped or address
    return address


def _name(text: str) -> str | None:
    """A trailing dot asks for the name without the network's own domain: `ai.` is a top-level domain."""
    absolute = text.endswith(".")
    name = text.removesuffix(".")
    if not HOST_NAME.fullmatch(name) or NUMBER.fullmatch(name.rpartition(".")[2]):
        return None
    return None if absolute and "." not in name and name != "localhost" else name

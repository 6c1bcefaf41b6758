"""Whether a URL leads to this machine or network, by its text alone: DNS answers cannot be trusted."""

import re
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from urllib.parse import urlsplit

LOOPBACK_NETWORKS = (IPv4Network("127.0.0.0/8"), IPv6Network("::1/128"))
PRIVATE_NETWORKS = (
    IPv4Network("10.0.0.0/8"),
    IPv4Network("172.16.0.0/12"),
    IPv4Network("192.168.0.0/16"),
    IPv6Network("fc00::/7"),
)
"""RFC 1918 and unique local addresses (RFC 4193). Link-local addresses are left out:
169.254.169.254 serves the credentials of cloud machines."""
LOCAL_DOMAINS = (".local", ".internal")
HOST_NAME = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*")
"""ASCII only: IDNA turns `evil\u3002com`, which has no ASCII dot, into `evil.com`."""
NUMERIC_LABEL = re.compile(r"[0-9]+|0x[0-9a-f]*")
"""Resolvers take a host whose last label is a number for an IP address (WHATWG URL, "ends in a number"), and
`0x08080808` or `010.0.0.1` is not the address that it seems to be."""


def is_local(url: str) -> bool:
    """Whether the server is on this machine or in this network, so that it needs no key.

    True for loopback, private and unique local addresses, `localhost`, names with one label (`ollama`), and
    names below `.local` and `.internal`.
    """
    host = _host(url)
    if isinstance(host, str):
        return bool(host) and ("." not in host or host.endswith(LOCAL_DOMAINS))
    return host is not None and any(host in network for network in (*LOOPBACK_NETWORKS, *PRIVATE_NETWORKS))


def is_loopback(url: str) -> bool:
    """Whether the server is on this machine, so that requests do not leave it."""
    host = _host(url)
    if isinstance(host, str):
        return host == "localhost"
    return host is not None and any(host in network for network in LOOPBACK_NETWORKS)


def _host(url: str) -> IPv4Address | IPv6Address | str | None:
    """The host as an address or a lower-case name; None if it is ambiguous or invalid."""
    try:
        text = (urlsplit(url).hostname or "").lower()
    except ValueError:  # brackets that do not close
        return None
    try:
        address = ip_address(text)
    except ValueError:
        return _host_name(text)
    if isinstance(address, IPv6Address):
        return None if address.scope_id else address.ipv4_mapped or address
    return address


def _host_name(text: str) -> str | None:
    """A valid host name without its trailing dot. None for a top-level domain such as `ai.`."""
    absolute = text.endswith(".")
    name = text.removesuffix(".")
    if not HOST_NAME.fullmatch(name) or NUMERIC_LABEL.fullmatch(name.rpartition(".")[2]):
        return None
    return None if absolute and "." not in name and name != "localhost" else name

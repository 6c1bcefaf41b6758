"""Chooses the proxy for a URL from HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY.

All HTTP requests of askmill follow this one rule. It is that of the SDK's client (httpx2); what httpx2 leaves
open is decided as in curl and Go (docs/how-to/proxy.md). As with the SDK, loopback addresses go through a
proxy unless NO_PROXY names them. `proxy_for` is pure; `proxy_environment` reads the process's variables.
"""

import base64
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import getproxies, getproxies_environment

from askmill.config.settings import BadSetting

EXAMPLE = "A good value: http://proxy.example.com:3128."
DEFAULT_PORTS = {"http": 80, "https": 443}
HOST_NAME = re.compile(r"[\w.-]+|[0-9a-fA-F:.]*:[0-9a-fA-F:.]*")
SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
SOCKS = re.compile(r"socks[45][ah]?")


@dataclass(frozen=True)
class Proxy:
    """A proxy: its URL without credentials, and the variable that names it."""

    url: str
    variable: str
    authorization: str | None = field(default=None, repr=False)
    """The value of the Proxy-Authorization header, from the user and password in the variable."""

    def __str__(self) -> str:
        return f"the proxy {self.url} ({self.variable})"

    @property
    def headers(self) -> dict[str, str]:
        """The headers for the proxy itself; the API must not receive them."""
        return {} if self.authorization is None else {"Proxy-Authorization": self.authorization}


def proxy_for(address: str, environ: Mapping[str, str]) -> Proxy | None:
    """The proxy for requests to `address`; None to connect directly.

    Args:
        address: an http:// or https:// URL.
        environ: the environment; the variables' names may be in lower or upper case.

    Raises:
        BadSetting: the variable that applies has an invalid value. The message does not quote it.
    """
    target = urlsplit(address)
    for kind in (target.scheme, "all"):
        variable = _find_variable(kind, environ)
        if variable and (value := environ[variable].strip()):
            return None if is_excluded(address, environ) else _parse(variable, value)
    return None


def is_excluded(address: str, environ: Mapping[str, str]) -> bool:
    """Whether NO_PROXY excludes this address."""
    target, variable = urlsplit(address), _find_variable("no", environ)
    entries = re.split(r"[,\s]+", environ[variable].lower()) if variable else []
    return any(_matches(entry, target) for entry in entries if entry)


def proxy_environment() -> Mapping[str, str]:
    """The process's variables, with the proxy settings of macOS or Windows if no variable names a proxy."""
    if getproxies_environment():
        return dict(os.environ)
    return {**{f"{kind}_proxy": value for kind, value in getproxies().items()}, **os.environ}


def no_proxy_variables(address: str, environ: Mapping[str, str]) -> dict[str, str]:
    """The NO_PROXY variables for a child process that reaches `address` without a proxy."""
    variable = _find_variable("no", environ)
    entries = environ[variable] if variable else ""
    names = ",".join(part for part in (entries, urlsplit(address).hostname or "") if part)
    return {"NO_PROXY": names, "no_proxy": names}


def _find_variable(kind: str, environ: Mapping[str, str]) -> str | None:
    """The variable that applies: the lower-case one if it exists, even empty, else one in another case."""
    lower = f"{kind}_proxy"
    if lower in environ:
        return lower
    if kind == "http" and "REQUEST_METHOD" in environ:
        return None  # in a CGI program HTTP_PROXY is the client's Proxy header (httpoxy)
    return next((name for name in environ if name.lower() == lower and environ[name]), None)


def _parse(variable: str, value: str) -> Proxy:
    match = SCHEME.match(value)
    scheme = match[1].lower() if match else "http"
    if SOCKS.fullmatch(scheme):
        raise BadSetting(f"{variable}: {scheme}:// proxies are not supported, only http and https. {EXAMPLE}")
    if scheme not in DEFAULT_PORTS:
        raise BadSetting(f"{variable}: must begin with http:// or https://. {EXAMPLE}")
    try:
        parts = urlsplit(value if match else f"http://{value}")
        host, port = parts.hostname or "", parts.port
        host.encode("idna")  # raises for empty and too long labels
    except ValueError:  # the message of urlsplit may quote a password
        raise BadSetting(_invalid_message(variable)) from None
    # An unescaped `/`, `?` or `#` in the password would end the host too early.
    if not HOST_NAME.fullmatch(host) or port == 0 or "@" in value[len(scheme) :].partition(parts.netloc)[2]:
        raise BadSetting(_invalid_message(variable))
    named = f"[{host}]" if ":" in host else host
    return Proxy(f"{scheme}://{named}:{port or DEFAULT_PORTS[scheme]}", variable, _authorization(parts))


def _invalid_message(variable: str) -> str:
    return (
        f"{variable}: is not the address of a proxy. In the user and password, write / as %2F, @ as %40, "
        f"# as %23, : as %3A. {EXAMPLE}"
    )


def _authorization(parts: SplitResult) -> str | None:
    if parts.username is None and parts.password is None:
        return None
    pair = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
    return f"Basic {base64.b64encode(pair.encode()).decode()}"


def _matches(entry: str, target: SplitResult) -> bool:
    """Whether one entry of NO_PROXY, in lower case, matches the target."""
    scheme, separator, rest = entry.rpartition("://")
    if separator and scheme not in {target.scheme, "all"}:
        return False
    host = (target.hostname or "").rstrip(".")
    port = target.port or DEFAULT_PORTS.get(target.scheme)
    return any(
        _matches_host(name, host)
        for name, entry_port in _host_and_port_candidates(rest)
        if entry_port is None or entry_port == port
    )


def _host_and_port_candidates(entry: str) -> Iterator[tuple[str, int | None]]:
    """An entry read as a host and, where possible, as host:port (`::1` is a host, `[::1]:80` is both)."""
    yield entry.strip("[]"), None
    name, colon, port = entry.rpartition(":")
    if colon and port.isdecimal() and (":" not in name or name.endswith("]")):
        yield name.strip("[]"), int(port)


def _matches_host(name: str, host: str) -> bool:
    if name == "*":
        return True
    if _is_ip_address(host):
        return _network_contains(name.replace("]", ""), host)
    if name.startswith(("*.", ".")):
        return host.endswith(name.lstrip("*"))
    return bool(name) and (host == name or host.endswith(f".{name}"))


def _is_ip_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _network_contains(network: str, address: str) -> bool:
    """Whether an IP address, or a network such as 10.0.0.0/8, contains this address."""
    try:
        return ip_address(address) in ip_network(network, strict=False)
    except ValueError:
        return False

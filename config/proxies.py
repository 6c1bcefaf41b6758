"""Which way a request takes to an address: directly, or through a proxy that the environment names.

One rule for every HTTP request of askmill: that of the SDK's own client (httpx2), with its gaps filled as
curl and Go do (docs/how-to/proxy.md). As with the SDK, loopback addresses go through a proxy unless NO_PROXY
names them. `proxy_for` is pure; `environment` reads the process's variables.
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

GOOD = "A good value: http://proxy.example.com:3128."
DEFAULT_PORTS = {"http": 80, "https": 443}
HOST_NAME = re.compile(r"[\w.-]+|[0-9a-fA-F:.]*:[0-9a-fA-F:.]*")
SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
SOCKS = re.compile(r"socks[45][ah]?")


@dataclass(frozen=True)
class Proxy:
    """A proxy: its address without credentials, and the variable that names it."""

    url: str
    variable: str
    authorization: str | None = field(default=None, repr=False)
    """The value of Proxy-Authorization, from the user and password in the variable."""

    def __str__(self) -> str:
        return f"the proxy {self.url} ({self.variable})"

    @property
    def headers(self) -> dict[str, str]:
        """What the proxy itself is told, and nothing but that."""
        return {} if self.authorization is None else {"Proxy-Authorization": self.authorization}


def proxy_for(address: str, environ: Mapping[str, str]) -> Proxy | None:
    """The proxy for requests to `address`, None for the direct way.

    Args:
        address: an http:// or https:// URL.
        environ: HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY, in lower or upper case.

    Raises:
        BadSetting: the variable that applies has an unusable value; the sentence does not quote it.
    """
    target = urlsplit(address)
    for kind in (target.scheme, "all"):
        variable = _variable(kind, environ)
        if variable and (value := environ[variable].strip()):
            return None if excepted(address, environ) else _parsed(variable, value)
    return None


def excepted(address: str, environ: Mapping[str, str]) -> bool:
    """Whether NO_PROXY names this address."""
    target, variable = urlsplit(address), _variable("no", environ)
    entries = re.split(r"[,\s]+", environ[variable].lower()) if variable else []
    return any(_names(entry, target) for entry in entries if entry)


def environment() -> Mapping[str, str]:
    """The process's variables; where none names a proxy, the settings of macOS or Windows in their place."""
    if getproxies_environment():
        return dict(os.environ)
    return {**{f"{kind}_proxy": value for kind, value in getproxies().items()}, **os.environ}


def without_proxy(address: str, environ: Mapping[str, str]) -> dict[str, str]:
    """NO_PROXY for a child process, with the host of `address` added."""
    variable = _variable("no", environ)
    known = environ[variable] if variable else ""
    names = ",".join(part for part in (known, urlsplit(address).hostname or "") if part)
    return {"NO_PROXY": names, "no_proxy": names}


def _variable(kind: str, environ: Mapping[str, str]) -> str | None:
    """The name that counts: in lower case if it is there, even empty, else in any other case."""
    lower = f"{kind}_proxy"
    if lower in environ:
        return lower
    if kind == "http" and "REQUEST_METHOD" in environ:
        return None  # a CGI server's HTTP_PROXY is the header Proxy of whoever asks (httpoxy)
    return next((name for name in environ if name.lower() == lower and environ[name]), None)


def _parsed(variable: str, value: str) -> Proxy:
    found = SCHEME.match(value)
    scheme = found[1].lower() if found else "http"
    if SOCKS.fullmatch(scheme):
        raise BadSetting(f"{variable}: {scheme}:// proxies are not supported, only http and https. {GOOD}")
    if scheme not in DEFAULT_PORTS:
        raise BadSetting(f"{variable}: must begin with http:// or https://. {GOOD}")
    try:
        parts = urlsplit(value if found else f"http://{value}")
        host, port = parts.hostname or "", parts.port
        host.encode("idna")  # as a name server is asked; raises for empty and too long labels
    except ValueError:  # its text quotes the value, and maybe the password
        raise BadSetting(_unreadable(variable)) from None
    # A password with `/`, `?` or `#` ends what is read as the host too early.
    if not HOST_NAME.fullmatch(host) or port == 0 or "@" in value[len(scheme) :].partition(parts.netloc)[2]:
        raise BadSetting(_unreadable(variable))
    named = f"[{host}]" if ":" in host else host
    return Proxy(f"{scheme}://{named}:{port or DEFAULT_PORTS[scheme]}", variable, _authorization(parts))


def _unreadable(variable: str) -> str:
    return (
        f"{variable}: is not the address of a proxy. In its user and password, write / as %2F, @ as %40, "
        f"# as %23, : as %3A. {GOOD}"
    )


def _authorization(parts: SplitResult) -> str | None:
    if parts.username is None and parts.password is None:
        return None
    pair = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
    return f"Basic {base64.b64encode(pair.encode()).decode()}"


def _names(entry: str, target: SplitResult) -> bool:
    """Whether one entry of NO_PROXY, in lower case, names the target."""
    scheme, found, rest = entry.rpartition("://")
    if found and scheme not in {target.scheme, "all"}:
        return False
    host = (target.hostname or "").rstrip(".")
    port = target.port or DEFAULT_PORTS.get(target.scheme)
    return any(_names_host(name, host) for name, only in _readings(rest) if only is None or only == port)


def _readings(entry: str) -> Iterator[tuple[str, int | None]]:
    """An entry as a host, and as host:port (`::1` is only the first, `[::1]:80` only the second)."""
    yield entry.strip("[]"), None
    name, found, port = entry.rpartition(":")
    if found and port.isdecimal() and (":" not in name or name.endswith("]")):
        yield name.strip("[]"), int(port)


def _names_host(name: str, host: str) -> bool:
    if name == "*":
        return True
    with_address = _address(host)
    if with_address is not None:
        return _contains(name.replace("]", ""), host)
    if name.startswith(("*.", ".")):
        return host.endswith(name.lstrip("*"))
    return bool(name) and (host == name or host.endswith(f".{name}"))


def _address(host: str) -> object | None:
    try:
        return ip_address(host)
    except ValueError:
        return None


def _contains(network: str, address: str) -> bool:
    """Whether an IP address, or a network such as 10.0.0.0/8, has this address."""
    try:
        return ip_address(address) in ip_network(network, strict=False)
    except ValueError:
        return False

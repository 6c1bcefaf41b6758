"""Addresses of Redis: one server, or a service that Sentinels watch.

    redis://[user:password@]host:port/DB          rediss:// over TLS, unix:///path for a socket
    redis+sentinel://[user:password@]host:port,host:port/SERVICE/DB      rediss+sentinel:// over TLS

User and password are those of the master and its replicas. Sentinels with a password of their own take it
from the query: `?sentinel_username=…&sentinel_password=…`. The rest of the query is redis-py's
(`ssl_ca_certs`).
"""

import re
from dataclasses import dataclass
from urllib.parse import SplitResult, parse_qsl, unquote, urlencode, urlsplit

SENTINEL_SUFFIX = "+sentinel"
SENTINEL_PORT = 26379
"""Sentinel's default port."""
_SENTINEL_USER, _SENTINEL_PASSWORD = "sentinel_username", "sentinel_password"
_PLACE = re.compile(r"(?:\[(?P<ipv6>[0-9a-fA-F:.]+)\]|(?P<name>[^:\[\]@/?#,\s]+))(?::(?P<port>[0-9]{1,5}))?")
_SERVICE = re.compile(r"/(?P<service>[\w.-]+)(?:/(?P<database>[0-9]{1,5})?)?")


@dataclass(frozen=True, repr=False)
class SentinelAddress:
    """A service that Sentinels watch. `repr` is left out: it would show passwords."""

    sentinels: tuple[tuple[str, int], ...]
    """Host and port of each Sentinel."""
    service: str
    database: int
    node_url: str
    """`redis://` or `rediss://` with the user, the password, the database and the query of the master's
    connections; its host is a placeholder."""
    over_tls: bool
    sentinel_username: str | None
    sentinel_password: str | None

    @property
    def places(self) -> tuple[str, ...]:
        """`host:port` of each Sentinel, an IPv6 address in brackets."""
        return tuple(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.sentinels)


def is_sentinel(url: str) -> bool:
    """Whether the address names Sentinels."""
    return url.partition("://")[0].endswith(SENTINEL_SUFFIX)


def sentinel_address(url: str) -> SentinelAddress:
    """Read a `redis+sentinel://` or `rediss+sentinel://` address.

    Raises:
        ValueError: it cannot be read; the message quotes nothing of it.
    """
    # urlsplit is given one host: it would refuse a list of IPv6 addresses.
    scheme, _, rest = url.partition("://")
    credentials, at, hosts_and_path = _split_credentials(rest)
    hosts = re.split(r"[/?#]", hosts_and_path, maxsplit=1)[0]
    tail = urlsplit(f"redis://host{hosts_and_path[len(hosts) :]}")
    place = _SERVICE.fullmatch(tail.path)
    if place is None:
        raise ValueError("must name the service behind the Sentinels: /SERVICE or /SERVICE/DATABASE")
    query = dict(parse_qsl(tail.query, keep_blank_values=True))
    username, password = query.pop(_SENTINEL_USER, None), query.pop(_SENTINEL_PASSWORD, None)
    server_scheme = scheme.removesuffix(SENTINEL_SUFFIX)
    database = place["database"] or "0"
    node_query = f"?{urlencode(query)}" if query else ""
    return SentinelAddress(
        sentinels=tuple(_place(text) for text in hosts.split(",")),
        service=place["service"],
        database=int(database),
        node_url=f"{server_scheme}://{credentials}{at}localhost/{database}{node_query}",
        over_tls=server_scheme == "rediss",
        sentinel_username=username,
        sentinel_password=password,
    )


def _split_credentials(rest: str) -> tuple[str, str, str]:
    """Split at the last @ before the path: a password may contain one."""
    head = re.split(r"[/?#]", rest, maxsplit=1)[0]
    credentials, at, _ = head.rpartition("@")
    return credentials, at, rest[len(credentials) + len(at) :]


def _place(text: str) -> tuple[str, int]:
    found = _PLACE.fullmatch(text)
    port = int(found["port"] or SENTINEL_PORT) if found else 0
    if found is None or not 0 < port < 65536:
        raise ValueError("must name the Sentinels as host:port,host:port")
    return found["ipv6"] or found["name"], port


def check_redis_url(url: str) -> None:
    """Raise ValueError if the address cannot be used; the message quotes nothing of it."""
    scheme = url.partition("://")[0]
    if scheme in {f"redis{SENTINEL_SUFFIX}", f"rediss{SENTINEL_SUFFIX}"}:
        sentinel_address(url)
        return
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:  # the message of urlsplit may quote a password
        raise ValueError("is not a URL with a number as its port") from None
    if parts.scheme not in {"redis", "rediss", "unix"}:
        raise ValueError("must begin with redis://, rediss://, unix:// or redis+sentinel://")
    if parts.scheme == "unix":
        if port is not None or not parts.path.strip("/"):
            raise ValueError("must name the path of a socket")
    elif not re.fullmatch(r"/?|/[0-9]{1,5}", parts.path):
        raise ValueError("must end with a database number or with the port")


def shown_address(url: str) -> str:
    """Return the address without user, password and query, as messages show it."""
    if is_sentinel(url):
        found = sentinel_address(url)
        scheme = url.partition("://")[0]
        return f"{scheme}://{','.join(found.places)}/{found.service}/{found.database}"
    parts = urlsplit(url)
    place = parts.path if parts.scheme == "unix" else f"{_host(parts)}:{parts.port or 6379}{parts.path}"
    return f"{parts.scheme}://{place}"


def _host(parts: SplitResult) -> str:
    host = parts.hostname or "localhost"
    return f"[{host}]" if ":" in host else host


def passwords_of(url: str) -> set[str]:
    """The passwords in the address, both as they are written in it and decoded."""
    credentials = _split_credentials(url.partition("://")[2])[0]
    written = {credentials.partition(":")[2]}
    query = urlsplit(f"redis://host?{url.partition('?')[2]}").query
    written |= {value for name, value in parse_qsl(query) if name in {"password", _SENTINEL_PASSWORD}}
    return {form for text in written if text for form in (text, unquote(text))}

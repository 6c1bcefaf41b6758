"""A network namespace with one link to this one, whose packets a test may drop in one direction.

Dropping: the sender's table of neighbours names a hardware address that nobody has. Nothing is refused and no
connection is closed, as in a partition; TCP sends again once the packets arrive.
"""

import os
import shutil
import subprocess
from typing import Self

NOBODY = "02:00:00:00:00:99"


def missing() -> str:
    """What it needs and is not there; '' if nothing is missing."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if shutil.which("ip") is None:
        return "the command ip (iproute2) is not installed"
    tried = subprocess.run(["unshare", "--net", "--mount", "true"], capture_output=True, check=False)
    return "" if tried.returncode == 0 else "this kernel or container forbids network namespaces"


class NetworkNamespace:
    """`with NetworkNamespace() as other: [*other.enter, "redis-server", "--bind", other.address]`."""

    def __init__(self) -> None:
        number = os.getpid() % 16_000
        self.name = f"askmill-{number}"
        self._links = f"am{number}a", f"am{number}b"
        network = f"10.213.{number // 64}.{number % 64 * 4}".rsplit(".", 1)
        self._here, self.address = (f"{network[0]}.{int(network[1]) + host}" for host in (1, 2))
        self.enter = ["ip", "netns", "exec", self.name]

    def __enter__(self) -> Self:
        here, there = self._links
        _ip(f"netns add {self.name}")
        _ip(f"link add {here} type veth peer name {there} netns {self.name}")
        for place, link, address in (("", here, self._here), (f"-n {self.name} ", there, self.address)):
            _ip(f"{place}addr add {address}/30 dev {link}")
            _ip(f"{place}link set {link} up")
        return self

    def __exit__(self, *_: object) -> None:
        # First: a namespace is gone some time after its deletion only, its links with it.
        _ip(f"link del {self._links[0]}")
        _ip(f"netns del {self.name}")

    def drop_requests(self) -> None:
        """Packets from here do not arrive there."""
        _ip(f"neigh replace {self.address} lladdr {NOBODY} nud permanent dev {self._links[0]}")

    def drop_replies(self) -> None:
        """Packets from there do not arrive here."""
        _ip(f"-n {self.name} neigh replace {self._here} lladdr {NOBODY} nud permanent dev {self._links[1]}")

    def restore(self) -> None:
        """Both directions work."""
        for place, address, link in (
            ("", self.address, self._links[0]),
            (f"-n {self.name} ", self._here, self._links[1]),
        ):
            subprocess.run(f"ip {place}neigh del {address} dev {link}".split(), check=False)


def _ip(arguments: str) -> None:
    subprocess.run(["ip", *arguments.split()], check=True)

"""Free ports on the loopback interface."""

import random
import socket

HOST = "127.0.0.1"

NO_CLIENT_PORTS = range(10_000, 32_768)
"""Systems give the client's end of a connection a higher port."""
_TRIES = 50


def free_port(preferred: int = 0) -> int:
    """Return `preferred` if nothing listens there, else any port that is free now.

    No connection of a client takes that before a server does; another server may.
    """
    candidates = random.sample(NO_CLIENT_PORTS, _TRIES)
    for port in (preferred, *candidates) if preferred else candidates:
        with socket.socket() as probe:
            # Servers bind with this option: a port with connections in TIME_WAIT counts as free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port
    raise OSError(0, "no port is free on 127.0.0.1")

"""Free ports on the loopback interface."""

import socket

HOST = "127.0.0.1"


def free_port(preferred: int = 0) -> int:
    """Return `preferred` if nothing listens there, else any port that is free now."""
    for port in (preferred, 0):
        with socket.socket() as probe:
            # Servers bind with this option: a port with connections in TIME_WAIT counts as free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise OSError(0, "no port is free on 127.0.0.1")

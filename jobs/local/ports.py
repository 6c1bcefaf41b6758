"""Free ports on the loopback interface."""

import socket

HOST = "127.0.0.1"


def free_port(wanted: int = 0) -> int:
    """`wanted` if nobody listens there, else another that is free now; 0 wants any."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            # As servers bind: a port whose last connections linger counts as free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise OSError(0, "no port is free on 127.0.0.1")

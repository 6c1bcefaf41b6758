"""`python -IS forked_command.py SOCKET PROGRAM ARGUMENT…`: one of askmill's programs in a shell, forked from the template.

This process stands for the program: it passes on signals and ends as the program ends, and the program ends with it.
It imports next to nothing, so that a command costs a shell 20 ms of CPU and not 2 s. tests/helpers/preloaded.py has
the protocol.
"""

import _socket
import json
import os
import signal
import struct
import sys

PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def _read_exactly(connection: _socket.socket, size: int) -> bytes:
    read = b""
    while len(read) < size:
        more = connection.recv(size - len(read))
        if not more:
            sys.exit("the template process has died")
        read += more
    return read


def main() -> None:
    """Never returns."""
    address, *args = sys.argv[1:]
    signal.pthread_sigmask(signal.SIG_BLOCK, PASSED_ON)
    connection = _socket.socket(_socket.AF_UNIX)
    connection.connect(address)
    request = {"args": args, "env": dict(os.environ), "folder": os.getcwd(), "session": False}  # noqa: PTH109
    body = json.dumps({**request, "parent": os.getpid(), "ends_with_requester": True}).encode()
    descriptors = (_socket.SOL_SOCKET, _socket.SCM_RIGHTS, struct.pack("3i", 0, 1, 2))
    connection.sendmsg([struct.pack("!i", len(body))], [descriptors])
    connection.sendall(body)
    (pid,) = struct.unpack("!i", _read_exactly(connection, 4))
    for number in PASSED_ON:
        signal.signal(number, lambda passed_on, _: os.kill(pid, passed_on))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, PASSED_ON)
    code = os.waitstatus_to_exitcode(struct.unpack("!id", _read_exactly(connection, 12))[0])
    if code < 0:
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


main()

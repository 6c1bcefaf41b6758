"""The emulator of `run --offline`: one per data directory, with its objects in DATA_DIR/emulator.

A batch is bound to the API's address, so the port of the first start is stored in DATA_DIR/emulator.json and
reused.
"""

import json
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from askmill.jobs.local import data_dir as folders
from askmill.jobs.local.ports import HOST, free_port
from askmill.jobs.local.shared_service import Readiness, share


@contextmanager
def emulator_process(data_dir: Path) -> Iterator[str]:
    """Yield `http://127.0.0.1:PORT/v1`; the emulator runs while the block runs.

    Raises:
        LocalFault: it does not start; the message quotes its log.
        UsageError: the data directory cannot be used.
    """
    with share(EmulatorService(data_dir)) as url:
        yield url


@dataclass
class EmulatorService:
    """The emulator as a shared service, with its state in DATA_DIR/emulator."""

    data_dir: Path
    name: ClassVar[str] = "emulator"
    title: ClassVar[str] = "emulator"
    instead: ClassVar[str] = "Or set OPENAI_API_KEY and run without --offline."
    last_resort: ClassVar[tuple[str, ...]] = ()

    def configure(self) -> list[str]:
        port = free_port(self._port())
        folders.write_private(self._file, json.dumps({"port": port}))
        command = [sys.executable, "-P", "-m", "askmill.emulator"]
        command += ["--host", HOST, "--port", str(port)]
        return [*command, "--state", str((self.data_dir / self.name).resolve())]

    def address(self) -> str:
        return f"http://{HOST}:{self._port()}/v1"

    def probe(self) -> Readiness:
        # It listens before it has read its state, so a connection alone does not mean that it is ready.
        try:
            with socket.create_connection((HOST, self._port()), 1) as connection:
                connection.sendall(b"GET /emulator/stats HTTP/1.0\r\nHost: localhost\r\n\r\n")
                return Readiness.READY if b" 200 " in connection.recv(64) else Readiness.NONE
        except OSError:
            return Readiness.NONE

    def request_shutdown(self) -> bool:
        return False

    @property
    def _file(self) -> Path:
        return self.data_dir / "emulator.json"

    def _port(self) -> int:
        """Return the stored port, or 0 if there is none."""
        try:
            return int(json.loads(self._file.read_text(encoding="utf-8"))["port"])
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return 0

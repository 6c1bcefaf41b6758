"""`--on-done`: runs a command or sends a POST when a batch finishes, with the JSON of `status --json`.

The waiting command does this, never a worker: otherwise everybody with access to Redis could run programs on
workers.
"""

import os
import subprocess
from urllib.parse import urlsplit

import orjson

from askmill.config.proxies import proxy_environment, proxy_for
from askmill.config.text import one_line, redact
from askmill.jobs.store.views import StatusView

TIMEOUT_S = 30.0


def notify(target: str, view: StatusView) -> str | None:
    """Run the command, or POST to the http(s) address. Returns a sentence if that failed, else None.

    A command gets the JSON on stdin, and ASKMILL_BATCH and ASKMILL_STATE in its environment.
    """
    body = orjson.dumps(view.to_json())
    try:
        if urlsplit(target).scheme in {"http", "https"}:
            return _post(target, body)
        return _run(target, body, view)
    except (OSError, ValueError) as fault:
        return f"--on-done failed: {one_line(redact(str(fault)))}."


def _post(url: str, body: bytes) -> str | None:
    import httpx2  # noqa: PLC0415 -- 100 ms that only this needs

    host, headers = urlsplit(url).hostname, {"Content-Type": "application/json"}
    proxy = proxy_for(url, proxy_environment())
    try:
        with httpx2.Client(
            trust_env=False,
            verify=httpx2.create_ssl_context(),
            proxy=None if proxy is None else httpx2.Proxy(proxy.url, headers=proxy.headers),
            timeout=TIMEOUT_S,
        ) as client:
            reply = client.post(url, content=body, headers=headers)
    except httpx2.HTTPError as fault:
        route = "" if proxy is None else f" through {proxy}"
        return f"--on-done: the POST to {host}{route} failed: {one_line(redact(str(fault)))}."
    if reply.is_success:
        return None
    redirect = ", a redirect, which askmill does not follow" if reply.is_redirect else ""
    return f"--on-done: {host} answered {reply.status_code}{redirect}."


def _run(command: str, body: bytes, view: StatusView) -> str | None:
    variables = {**os.environ, "ASKMILL_BATCH": view.batch.id, "ASKMILL_STATE": view.batch.state.value}
    # The user's own command line, run as in their shell. Its output goes to stderr: stdout is for results.
    process = subprocess.run(command, shell=True, input=body, stdout=2, env=variables, check=False)  # noqa: S602
    return None if process.returncode == 0 else f"--on-done: the command ended with {process.returncode}."

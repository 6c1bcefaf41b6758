"""`--on-done`: tells a program or an address that a batch has ended, with what `status --json` prints.

The command that waits does it, never a worker: whoever reaches the Redis could else run programs on workers.
"""

import os
import subprocess
from urllib.parse import urlsplit

import orjson

from askmill.config.proxies import environment, proxy_for
from askmill.config.text import one_line, redact
from askmill.jobs.store.records import StatusView

TIMEOUT_S = 30.0


def notify(target: str, view: StatusView) -> str | None:
    """Run the command, or POST to the http(s) address; returns what went wrong, for a person.

    A command gets the JSON on stdin, and ASKMILL_BATCH and ASKMILL_STATE in its environment.
    """
    body = orjson.dumps(view.to_json())
    try:
        if urlsplit(target).scheme in {"http", "https"}:
            return _posted(target, body)
        return _run(target, body, view)
    except (OSError, ValueError) as fault:
        return f"--on-done failed: {one_line(redact(str(fault)))}."


def _posted(url: str, body: bytes) -> str | None:
    import httpx2  # noqa: PLC0415 -- 100 ms that only this needs

    host, headers = urlsplit(url).hostname, {"Content-Type": "application/json"}
    proxy = proxy_for(url, environment())
    own = {} if proxy is None else proxy.headers
    try:
        with httpx2.Client(
            trust_env=False,
            verify=httpx2.create_ssl_context(),
            proxy=None if proxy is None else httpx2.Proxy(proxy.url, headers=own),
            timeout=TIMEOUT_S,
        ) as client:
            reply = client.post(url, content=body, headers=headers)
    except httpx2.HTTPError as fault:
        way = "" if proxy is None else f" through {proxy}"
        return f"--on-done: {host} did not take it{way}: {one_line(redact(str(fault)))}."
    if reply.is_success:
        return None
    redirected = ", a redirect, which is not followed" if reply.is_redirect else ""
    return f"--on-done: {host} answered {reply.status_code}{redirected}."


def _run(command: str, body: bytes, view: StatusView) -> str | None:
    told = {"ASKMILL_BATCH": view.batch.id, "ASKMILL_STATE": view.batch.state.value}
    # The person's own command line, as in a shell of theirs; its output goes to stderr, results keep stdout.
    environment = {**os.environ, **told}
    ended = subprocess.run(command, shell=True, input=body, stdout=2, env=environment, check=False)  # noqa: S602
    return None if ended.returncode == 0 else f"--on-done: the command ended with {ended.returncode}."

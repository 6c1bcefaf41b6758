"""A real worker with shorter intervals, so that a test sees its death within seconds.

`MILL_TIMES` is JSON: constants of worker/process/worker.py to replace, by name; CREATE_LIMIT_S, how long a create
without a reply may still be carried out (worker/lifecycle/retry.py), for servers that do so at once or never; and
FUNCTION_LIMIT_S, how long a function may take (worker/runtime/context.py). While the file `MILL_NO_DNS` exists,
name resolution fails.
"""

import functools
import json
import os
import socket
import sys
from pathlib import Path
from typing import Any

from askmill.worker import __main__ as worker
from askmill.worker.execution import request_builder, shard_runner
from askmill.worker.lifecycle.retry import RetryPolicy
from askmill.worker.lifecycle.shard_policy import ShardPolicy
from askmill.worker.process import worker as process
from askmill.worker.runtime.context import WorkerContext


def _failing_while(switch: Path, resolve: Any) -> Any:
    """`socket.getaddrinfo`, failing as with an unreachable resolver while the file exists."""

    def getaddrinfo(*args: Any, **options: Any) -> Any:
        if switch.exists():
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return resolve(*args, **options)

    return getaddrinfo


if switch := os.environ.get("MILL_NO_DNS"):
    socket.getaddrinfo = _failing_while(Path(switch), socket.getaddrinfo)
times = json.loads(os.environ["MILL_TIMES"])
if limit_s := times.pop("CREATE_LIMIT_S", None):
    request_builder.RetryPolicy = functools.partial(RetryPolicy, create_limit_s=limit_s)  # type: ignore[misc,assignment]
    shard_runner.ShardPolicy = functools.partial(  # type: ignore[misc,assignment]
        ShardPolicy, create_limit_s=limit_s, unsettled_s=limit_s, reread_s=limit_s / 10
    )
if limit_s := times.pop("FUNCTION_LIMIT_S", None):
    process.WorkerContext = functools.partial(WorkerContext, function_limit_s=limit_s)  # type: ignore[misc,assignment]
for name, seconds in times.items():
    assert hasattr(process, name), f"askmill.worker.process.worker has no {name}"
    setattr(process, name, seconds)
sys.exit(worker.main())

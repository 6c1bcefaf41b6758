"""`python -P -m askmill.worker`: start a Celery worker without the working folder on the import path.

Celery's own command line adds that folder, where a user's module could shadow a library's.
"""

import gc

if __name__ == "__main__":
    gc.disable()  # nothing is garbage while modules load; celery_app.py enables it again

import argparse
import os
import resource
import signal
import sys
import threading
from contextlib import ExitStack, suppress
from queue import SimpleQueue

from askmill.config.settings import CHAT_CONCURRENCY, BadSetting, Settings, load_settings
from askmill.config.text import safe_text
from askmill.jobs.local import embedded_redis
from askmill.jobs.model.api_target import api_target
from askmill.jobs.model.errors import AskmillError
from askmill.worker.runtime import telemetry


def main() -> int:
    """Start the worker and run it to its end; returns the exit code."""
    parser = argparse.ArgumentParser(prog="askmill worker")
    parser.add_argument(
        "--concurrency", type=int, help="Runs in flight of this worker. [default: ASKMILL_CONCURRENCY]"
    )
    parser.add_argument("--exit-with-parent", action="store_true", help="Exit when stdin closes.")
    parser.add_argument(
        "--one-batch", action="store_true", help="Serve the batch whose id is the first line of stdin."
    )
    parser.add_argument(
        "--allow-functions", action="append", default=[], metavar="MODULE", help="May be called by models."
    )
    options = parser.parse_args()
    _raise_open_file_limit()
    first_line = SimpleQueue[str]()
    if options.exit_with_parent:
        watch = threading.Thread(target=_watch_stdin, args=(first_line,), name="askmill-parent", daemon=True)
        watch.start()
    with ExitStack() as stack:
        try:
            _use_embedded_redis(stack)
            # Importing the application reads the settings.
            from askmill.worker.celery import celery_app  # noqa: PLC0415

            slots = options.concurrency or celery_app.settings.concurrency_in_use
            celery_app.scope.chat_slots = _chat_slots(celery_app.settings, options.concurrency)
            telemetry.set_up(celery_app.settings, celery_app.rows_in_progress, slots)
            celery_app.scope.functions = _allow_functions(options.allow_functions)
        except SystemExit as refused:
            _print_error(str(refused.code))
            return 2
        except BadSetting as error:
            _print_error(f"Error: {error}")
            return 2
        except AskmillError as error:
            _print_error(f"Error: {error}")
            return error.exit_code
        queues = None
        if options.one_batch:
            celery_app.scope.batch = first_line.get()
            queues = [celery_app.add_queue_of(celery_app.scope.batch)]
        worker = celery_app.app.Worker(
            concurrency=options.concurrency, queues=queues, without_gossip=True, without_mingle=True
        )
        worker.start()
        return celery_app.exit_code() or int(worker.exitcode or 0)


def _print_error(message: str) -> None:
    print(safe_text(message), file=sys.stderr)  # noqa: T201 -- for the user


def _raise_open_file_limit() -> None:
    """Raise the limit of open files as far as allowed: each run in flight is a connection."""
    _, limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))


def _use_embedded_redis(stack: ExitStack) -> None:
    """Without ASKMILL_REDIS_URL, use the embedded Redis for as long as the worker lives.

    Its address contains a password. A new process' environment can be read in /proc, a variable that is set
    later cannot: so the address is set here.
    """
    with suppress(BadSetting):  # importing worker.celery.celery_app reports it
        settings = load_settings()
        if (warning := api_target(settings).unencrypted_key_warning) is not None:
            _print_error(warning)
        if settings.redis_url is None:
            os.environ["ASKMILL_DURABILITY"] = settings.durability_in_use
            os.environ["ASKMILL_REDIS_URL"] = stack.enter_context(embedded_redis(settings.data_dir))


def _chat_slots(settings: Settings, concurrency: int | None) -> int | None:
    """Calls of chat completions at a time, for a worker of any API whose number of slots nobody has set."""
    chosen = settings.api_in_use is not None or settings.concurrency or concurrency
    return None if chosen else CHAT_CONCURRENCY


def _allow_functions(modules: list[str]) -> str:
    """Import the modules; returns their hashes as a worker describes itself. Raises ProfileError."""
    if not modules:
        return ""
    from askmill.jobs.functions.registry import allow  # noqa: PLC0415 -- few workers have functions

    return ",".join(allow(module) for module in modules)


def _watch_stdin(first_line: "SimpleQueue[str]") -> None:
    """Pass the first line on; terminate when stdin closes: its other end, the parent, has ended."""
    # Not sys.stdin: a thread that waits in it aborts the interpreter's exit.
    before = b""
    while text := os.read(0, 4096):
        if b"\n" not in before and b"\n" in before + text:
            first_line.put((before + text).split(b"\n")[0].decode())
        before += text
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())

"""`python -P -m askmill.worker`: start a Celery worker without the working folder on the import path.

Celery's own command line adds that folder, where a user's module could shadow a library's.
"""

import argparse
import gc
import os
import resource
import signal
import sys
import threading
from contextlib import ExitStack, suppress

from askmill.config.settings import BadSetting, load_settings
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
    options = parser.parse_args()
    _raise_open_file_limit()
    if options.exit_with_parent:
        threading.Thread(target=_exit_with_parent, name="askmill-parent", daemon=True).start()
    with ExitStack() as stack:
        try:
            _use_embedded_redis(stack)
            gc.disable()  # nothing is garbage while modules load; celery_app.py enables it again
            # Importing the application reads the settings.
            from askmill.worker.celery.celery_app import app, exit_code, rows_in_progress, settings  # noqa: PLC0415

            telemetry.set_up(settings, rows_in_progress, options.concurrency or settings.concurrency)
        except SystemExit as refused:
            _print_error(str(refused.code))
            return 2
        except BadSetting as error:
            _print_error(f"Error: {error}")
            return 2
        except AskmillError as error:
            _print_error(f"Error: {error}")
            return error.exit_code
        worker = app.Worker(concurrency=options.concurrency, without_gossip=True, without_mingle=True)
        worker.start()
        return exit_code() or int(worker.exitcode or 0)


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


def _exit_with_parent() -> None:
    """Terminate when stdin closes: the parent holds its other end and has ended."""
    # Not sys.stdin: a thread that waits in it aborts the interpreter's exit.
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())

"""`python -P -m askmill.worker`: a Celery worker from our own entry point, blind to the folder it is started in.

Celery's own command line puts the working folder on the path, where a user's `config.py` would shadow ours.
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
from askmill.jobs.model.api_target import target_of
from askmill.jobs.model.errors import AskmillError
from askmill.worker.runtime import telemetry


def main() -> int:
    """Start the worker; returns its exit code."""
    parser = argparse.ArgumentParser(prog="askmill worker")
    parser.add_argument("--concurrency", type=int, help="runs in flight (default: ASKMILL_CONCURRENCY)")
    parser.add_argument("--exit-with-parent", action="store_true", help="end when stdin closes")
    options = parser.parse_args()
    _open_many_files()
    if options.exit_with_parent:
        threading.Thread(target=_wait_for_parent, name="askmill-parent", daemon=True).start()
    with ExitStack() as stack:
        try:
            _join_embedded_redis(stack)
            gc.disable()  # nothing of what is loaded is garbage; worker/celery/celery_app.py has it look again
            from askmill.worker.celery.celery_app import app, held, settings  # noqa: PLC0415 -- reads the settings: faults are told below

            telemetry.set_up(settings, held, options.concurrency or settings.concurrency)
        except SystemExit as refused:
            print(safe_text(str(refused.code)), file=sys.stderr)  # noqa: T201 -- a sentence for a person
            return 2
        except BadSetting as bad:
            print(safe_text(f"Error: {bad}"), file=sys.stderr)  # noqa: T201 -- a sentence for a person
            return 2
        except AskmillError as fault:
            print(safe_text(f"Error: {fault}"), file=sys.stderr)  # noqa: T201 -- a sentence for a person
            return fault.exit_code
        worker = app.Worker(concurrency=options.concurrency, without_gossip=True, without_mingle=True)
        worker.start()
        return int(worker.exitcode or 0)


def _open_many_files() -> None:
    """A run in flight is a connection: take as many as the system lets us."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _join_embedded_redis(stack: ExitStack) -> None:
    """Without ASKMILL_REDIS_URL: the embedded Redis, for as long as the worker lives.

    The address has a password, so it is found here and not handed over in the environment of a new process;
    what is set now, /proc shows to nobody.
    """
    with suppress(BadSetting):  # worker.celery.celery_app tells it
        settings = load_settings()
        if (warning := target_of(settings).exposed_key) is not None:
            print(safe_text(warning), file=sys.stderr)  # noqa: T201 -- a sentence for a person
        if settings.redis_url is None:
            os.environ["ASKMILL_REDIS_URL"] = stack.enter_context(embedded_redis(settings.data_dir))


def _wait_for_parent() -> None:
    """The command that started us holds the other end of stdin: its end is ours, however it ended."""
    # Not sys.stdin: a thread that waits in it aborts the interpreter's exit.
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())

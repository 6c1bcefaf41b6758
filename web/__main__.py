"""`python -P -m askmill.web`: the server of `askmill web`."""

import argparse
import sys

from askmill.config.logs import set_up_logs
from askmill.config.settings import BadSetting, load_settings
from askmill.config.text import safe_text
from askmill.jobs.model.errors import AskmillError


def main() -> int:
    """Serve until Ctrl-C or SIGTERM; returns the exit code."""
    parser = argparse.ArgumentParser(prog="askmill web")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8765)
    parser.add_argument("--prefix", default="")
    parser.add_argument("--offline", action="store_true")
    parser.add_argument("--max-upload", type=int)
    parser.add_argument("--allow-functions", action="append", default=[])
    parser.add_argument("--allow-host", action="append", default=[])
    arguments = parser.parse_args()
    try:
        settings = load_settings()
        set_up_logs(settings.log_format, settings.log_level)
        from askmill.web.server import serve  # noqa: PLC0415 -- after the settings: they may be wrong

        serve(settings, arguments)
    except BadSetting as error:
        return _failed(str(error), 2)
    except AskmillError as error:
        return _failed(str(error), error.exit_code)
    except KeyboardInterrupt:
        pass  # a server is ended by a signal
    return 0


def _failed(message: str, code: int) -> int:
    print(safe_text(f"Error: {message}"), file=sys.stderr)  # noqa: T201 -- for the user
    return code


if __name__ == "__main__":
    sys.exit(main())

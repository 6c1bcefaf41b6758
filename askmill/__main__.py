"""The console script `askmill`, and `python -P -m askmill`."""

from askmill.pinning import pin


def main() -> None:
    """The command line, blind to the user's own `config.py`, `jobs.py` and `worker.py`."""
    pin()
    from jobs.cli import main as command_line  # noqa: PLC0415 -- only now it is ours

    command_line()


if __name__ == "__main__":
    main()

"""The console script `askmill`, and `python -P -m askmill`."""

from askmill.jobs.cli import main

if __name__ == "__main__":
    main()

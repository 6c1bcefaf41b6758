"""`python -P -m askmill.own MODULE …`: `python -m MODULE …` that finds our module, whatever PYTHONPATH has.

So askmill starts its processes: `-P` keeps the working folder out, and this what PYTHONPATH adds.
"""

import runpy
import sys

from askmill.pinning import pin


def main() -> None:
    """Becomes the module; its exit code is ours."""
    pin()
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()

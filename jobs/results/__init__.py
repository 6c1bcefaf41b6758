"""Results as files: every row once, in order, each file whole or untouched.

`plan_results(out, spec, ResultOptions(...))` finds what is wrong before anything is paid for;
`write_results(rows, plan, fetch_blob)` writes.
"""

from jobs.cells import FIELDS
from jobs.results.generated import FetchBlob
from jobs.results.output import Format
from jobs.results.write import Plan, ResultOptions, Written, plan_results, write_results

__all__ = [
    "FIELDS",
    "FetchBlob",
    "Format",
    "Plan",
    "ResultOptions",
    "Written",
    "plan_results",
    "write_results",
]

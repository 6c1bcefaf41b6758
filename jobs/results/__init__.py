"""Writes results to files: every row once, in order; each file is replaced completely or not at all.

`plan_results(out, spec, ResultOptions(...))` validates the options before submit (for a batch: `plan_new` and
`plan_collect` of jobs/results/collect.py);
`write_results(rows, plan, fetch_blob)` writes the files.
"""

from askmill.jobs.model.result_fields import FIELDS
from askmill.jobs.results.destination import Format
from askmill.jobs.results.export import (
    Contents,
    Plan,
    ResultOptions,
    Written,
    plan_results,
    write_results,
)
from askmill.jobs.results.generated_files import FetchBlob

__all__ = [
    "FIELDS",
    "Contents",
    "FetchBlob",
    "Format",
    "Plan",
    "ResultOptions",
    "Written",
    "plan_results",
    "write_results",
]

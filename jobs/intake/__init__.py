"""Input files: validate a file as a whole, then iterate over its rows in constant memory.

`check(path, IntakeOptions(...))` raises InputFaults with all faults of the file, or returns an `Intake`.
Its `rows_iter()` yields the rows lazily.
"""

from askmill.jobs.intake.options import IntakeOptions
from askmill.jobs.intake.validate import Intake, check

__all__ = ["Intake", "IntakeOptions", "check"]

"""A file of questions, checked as a whole, then handed out row by row in flat memory.

`check(path, IntakeOptions(...))` refuses with all faults or gives an `Intake`; its `rows_iter()` is lazy.
"""

from askmill.jobs.intake.options import IntakeOptions
from askmill.jobs.intake.validate import Intake, check

__all__ = ["Intake", "IntakeOptions", "check"]

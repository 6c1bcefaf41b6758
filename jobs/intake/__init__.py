"""A file of questions, checked as a whole, then handed out row by row in flat memory.

`check(path, IntakeOptions(...))` refuses with all faults or gives an `Intake`; its `rows_iter()` is lazy.
"""

from jobs.intake.check import Intake, check
from jobs.intake.options import IntakeOptions

__all__ = ["Intake", "IntakeOptions", "check"]

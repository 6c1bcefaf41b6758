"""Tables of pandas and polars from what has a pyarrow table."""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow as pa


class ArrowTable(ABC):
    """Adds `to_pandas` and `to_polars` to a class with `to_arrow`."""

    @abstractmethod
    def to_arrow(self) -> "pa.Table":
        """Return a pyarrow table."""

    def to_pandas(self) -> "pd.DataFrame":
        """Return a pandas table with the columns of `to_arrow`. Needs pandas."""
        import pandas  # noqa: F401, ICN001, PLC0415 -- an optional package: says so if it is missing

        frame: pd.DataFrame = self.to_arrow().to_pandas()
        return frame

    def to_polars(self) -> "pl.DataFrame":
        """Return a polars table with the columns of `to_arrow`. Needs polars."""
        import polars  # noqa: ICN001, PLC0415 -- an optional package

        frame = polars.from_arrow(self.to_arrow())
        assert isinstance(frame, polars.DataFrame)
        return frame

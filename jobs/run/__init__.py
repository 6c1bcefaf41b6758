"""The `run` use case: watch a batch, supervise its worker, notify at its end; and the checks of `doctor`."""

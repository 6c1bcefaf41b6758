"""The `run` use case: watch a batch, keep a worker alive, notify, check health."""

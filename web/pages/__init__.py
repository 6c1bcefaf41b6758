"""The page: batches, a new batch, one batch with its rows; rendered here, it works without scripts."""

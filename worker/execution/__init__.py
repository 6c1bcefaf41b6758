"""The work on one row: decide, store, act."""

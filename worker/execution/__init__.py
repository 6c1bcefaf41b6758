"""One job of a worker: decide, store, act."""

"""The worker process: heartbeat, dispatch, reaping."""

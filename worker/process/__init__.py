"""The worker process: heartbeat, dispatch, maintenance."""

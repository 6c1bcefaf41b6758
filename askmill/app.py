"""`celery -A askmill.app worker`: worker.app under a name that no file of the working folder has.

Celery puts that folder first on sys.path, so `celery -A worker.app` would find a user's `worker.py` there.
"""

from askmill.pinning import pin

pin()

from worker.app import app  # noqa: E402 -- only now it is ours

__all__ = ["app"]

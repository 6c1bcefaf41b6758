"""The worker: Celery tasks that claim a row each, ask the API its question and follow the run to its end."""

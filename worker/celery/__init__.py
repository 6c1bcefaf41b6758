"""The Celery application with its pool, transport and task."""

"""The Celery application, its pool, transport and task."""

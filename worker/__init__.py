"""The worker side: Celery tasks that ask the API one question each and follow the run to its end."""

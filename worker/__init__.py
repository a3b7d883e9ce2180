"""The working side: Celery app, supervisor, leases, sweeper. Only ``worker.child`` loads torch."""

"""The schema's history, run by Alembic. What it means stands in ``app/*/tables.py``."""

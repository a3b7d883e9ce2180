"""Webhooks: where a project wants to be told of its jobs, and what was sent there."""

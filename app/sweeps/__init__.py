"""Sweeps: jobs that were asked for together, and what they say together."""

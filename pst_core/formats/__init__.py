"""Checkpoint formats: what a compressed model looks like on disk, and how it is read back.

Training knows nothing of these; docs/formats.md describes them for other languages.
"""

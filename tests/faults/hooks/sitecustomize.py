"""Loaded by every Python process of a fault test, as its folder is on PYTHONPATH.

The production code has no switch for tests: here its trainer is replaced by toy_trainer.py.
"""

from pathlib import Path

from worker import process

process.CHILD = ("-I", "-S", str(Path(__file__).parents[1] / "toy_trainer.py"))

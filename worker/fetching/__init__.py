"""The fetch child: the one process of a job with a network; it brings models and data from a hub.

Which revision a job trains, and what becomes of one that cannot be fetched, is the supervisor's.
"""

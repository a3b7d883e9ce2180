"""Answers that go on while a job does; what they tell is their nouns'."""

"""Datasets that a project has uploaded."""

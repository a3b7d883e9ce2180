"""A report as a page for people, with its plots. The report itself, as data, is report.py."""

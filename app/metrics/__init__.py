"""The series of jobs' training steps."""

"""The client's commands of ``pst``: they speak to a service over HTTP, and to nothing else."""

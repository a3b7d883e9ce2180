"""Finished jobs as repositories of the Hugging Face Hub, for clients that know only that."""

"""What an installation can compress, and how."""

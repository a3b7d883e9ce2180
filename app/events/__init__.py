"""What happened to jobs: as pages, and as it happens."""

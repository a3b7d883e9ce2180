"""Published checkpoints and their bytes."""

"""What the service tells Prometheus of itself. A job's own series of steps are app/metrics'."""

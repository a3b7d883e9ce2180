"""The page at `/`: what the API does, for who would rather look than call. Views by noun."""

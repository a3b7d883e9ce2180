"""One answer for a request that a client sends again under the same key."""

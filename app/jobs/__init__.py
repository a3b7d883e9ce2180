"""Jobs: what is asked, what became of it, and what happened on the way."""

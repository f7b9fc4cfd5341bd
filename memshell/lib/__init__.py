"""lib/: what the whole kernel shares."""

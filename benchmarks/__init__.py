"""Speed and memory, compared with other implementations; run from a clone."""

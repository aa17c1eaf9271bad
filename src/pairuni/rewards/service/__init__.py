"""A reward served over HTTP, and its client."""

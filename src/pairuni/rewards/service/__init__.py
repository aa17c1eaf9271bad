"""A reward over HTTP: the server (``pairuni serve-reward``) and its client, the reward remote."""

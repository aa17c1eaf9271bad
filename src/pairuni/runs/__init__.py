"""A run's folder: where its files are, their formats, and reading and writing them."""

"""A run's folder and what it holds."""

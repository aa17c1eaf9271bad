"""Builds spread over processes and machines."""

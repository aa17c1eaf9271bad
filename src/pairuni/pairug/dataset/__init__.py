"""Pair files: written, read, checked, converted, published."""

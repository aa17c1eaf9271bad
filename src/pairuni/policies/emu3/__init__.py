"""Emu3: one transformer over text tokens and VQ tokens of images."""

"""Decoding shared by autoregressive families."""

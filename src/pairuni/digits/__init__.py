"""The digits world: images composed of real handwritten digits, in colours, counts and places.

A unified model of a few million parameters learns it on two CPU cores. Its raw data are images and JSONL files that
the usual readers read.
"""

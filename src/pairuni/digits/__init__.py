"""The embedded world: images composed of real handwritten digits, in colours, counts and places.

Small enough that a unified model of a few million parameters learns it on two cores, and real enough that
nothing in the way of the data is faked: images and JSONL on disk, read by the ordinary readers.
"""

"""Samples completed to quadruples by an annotator."""

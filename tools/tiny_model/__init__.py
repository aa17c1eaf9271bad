"""The recipe of the shipped tiny model."""

"""The recipe of the tiny Lumina-DiMOO."""

"""How the shipped tiny unified model is made from nothing: one command, fixed seeds, every stage here.

python -m pairuni.digits.base --out DIR
"""

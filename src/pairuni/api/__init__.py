"""What a user does with pairuni in Python: build pairs, train, evaluate. The commands call the same functions."""

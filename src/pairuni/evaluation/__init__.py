"""Public benchmarks: their official files in and out, and the official scores of them."""

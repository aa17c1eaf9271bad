"""Public benchmarks: runs of a model, official files and official scores."""

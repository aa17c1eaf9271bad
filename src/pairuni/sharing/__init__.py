"""A run's model as a folder for the hub: weights or adapter, card, recipe, scores, samples."""

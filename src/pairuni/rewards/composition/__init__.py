"""Whether an image shows the required objects, numbers, colours and positions: any detector, GenEval's rules."""

"""Does an image show the objects, numbers, colours and positions asked for? By any detector, by GenEval's rules."""

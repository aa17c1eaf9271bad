"""Official file formats and scoring rules of each benchmark."""

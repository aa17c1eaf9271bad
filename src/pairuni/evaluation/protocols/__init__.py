"""Official files and official scores of each benchmark."""

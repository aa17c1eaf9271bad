"""What made the shipped assets."""

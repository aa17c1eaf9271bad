"""Speed and memory measured beside what others do."""

"""What the commands do; ``pairuni.cli`` only names them and their options."""

"""Files of users and of others: opened, checked, written whole."""

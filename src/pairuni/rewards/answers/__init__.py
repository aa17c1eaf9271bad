"""Whether an answer says what the truth says."""

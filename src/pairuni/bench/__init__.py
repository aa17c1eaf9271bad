"""Speed and memory, measured beside what others do: rollouts, updates, whole steps."""

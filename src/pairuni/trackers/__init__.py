"""TensorBoard, wandb and trackio: what a run logs, sent to services too. Each package is imported when a run begins."""

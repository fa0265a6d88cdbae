"""Tasks: one module each, turning samples into requests."""

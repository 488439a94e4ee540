"""Where outputs go: packed columns to import lines."""

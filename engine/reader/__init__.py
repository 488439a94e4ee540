"""Where points come from: query answers to packed samples."""

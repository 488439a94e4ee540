"""HTTP side: health, metrics, and their push."""

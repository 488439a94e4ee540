"""Outputs on their way to the database: in order, bounded, on disk where there is a folder for them."""

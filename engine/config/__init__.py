"""Configuration: files to one validated, typed snapshot."""

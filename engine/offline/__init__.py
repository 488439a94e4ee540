"""Commands that need no server: score files, and tell what models there are."""

"""Plain records on disk: named arrays, whole files, journals, one process at a time."""

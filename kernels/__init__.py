"""Compiled numeric kernels over packed arrays: numpy and numba only, no I/O, no clock, no classes."""

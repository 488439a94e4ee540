"""Our kernels against the libraries that people use for the same: cases, their contenders, how they are timed."""

"""Models: hyperparameters as types, fitted state as arrays, kernels for both."""

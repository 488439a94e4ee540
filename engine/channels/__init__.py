"""Several queries as channels of multivariate models: what they are, how they are read, grouped and scored."""

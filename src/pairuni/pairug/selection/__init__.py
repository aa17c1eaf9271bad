"""Algorithm 1: features, clusters, matching."""

"""Pages of families, channels and images."""

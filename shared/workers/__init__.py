"""The workers, one file for each order. A worker looks, acts, looks again and returns a fact; it writes no state."""

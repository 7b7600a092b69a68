"""What buckets hold: objects, what is on its way into one, and the conditions of a change."""

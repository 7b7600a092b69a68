"""Find what differs between two images."""

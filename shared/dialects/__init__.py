"""Other languages for the same spec: each is turned into native documents that keep their places in its own text."""

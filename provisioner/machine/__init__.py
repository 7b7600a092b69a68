"""The machine as a whole: its services, swap and scratch disk, its clean-up, and its end."""

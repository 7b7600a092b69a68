"""What needs a person: each check is zero, or a list with what to do."""

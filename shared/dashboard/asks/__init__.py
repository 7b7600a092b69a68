"""What people ask for: a preview of it, the form with its reason, and what has come of it."""

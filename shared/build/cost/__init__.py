"""The cost of a build: what it has used, and what that comes to at list prices."""

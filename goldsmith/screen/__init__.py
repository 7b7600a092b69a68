"""Output for people: a build as it runs, tables, progress, and words for states."""

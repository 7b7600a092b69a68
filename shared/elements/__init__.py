"""Elements as people write them: which ones a list of names means, and their documents, read and checked."""

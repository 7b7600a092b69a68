"""From a spec to a build: its source, its plan, the request, and its turn in the queue."""

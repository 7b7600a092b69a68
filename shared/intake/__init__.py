"""Turn uploads and requests into builds, or into a rejection that says why."""

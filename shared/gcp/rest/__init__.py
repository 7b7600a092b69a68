"""Services of Google's of which a few calls are needed, by REST: keys, versions of secrets, metrics."""

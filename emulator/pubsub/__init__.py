"""What Pub/Sub adds to its own emulator: filtered push subscriptions, retries and dead letters."""

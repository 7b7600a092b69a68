"""Put a backend together: of this machine, a deployment or a terminal; run builds and carry messages on one machine."""

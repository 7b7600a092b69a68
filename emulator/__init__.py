"""Google Cloud on one machine, for end-to-end tests: endpoints that Google's own clients talk to, all on loopback."""

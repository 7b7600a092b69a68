"""The dashboard: pages for people and their JSON, over the ports of a backend."""

"""The ports of the core on one machine: virtual machines, SQLite, directories, an image catalogue."""

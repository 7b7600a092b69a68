"""This host: its programs, processes and folders."""

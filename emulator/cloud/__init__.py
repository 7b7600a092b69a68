"""Google Cloud as one server on this machine: its functions, its schedules, and all services together."""

"""What people ask for in the dashboard: who may, whether things are still as they were seen, and what comes of it."""

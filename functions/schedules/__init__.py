"""What Cloud Scheduler calls: time passes for builds, and old images go away."""

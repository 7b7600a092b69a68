"""The job's state and reports: written to the disk, then sent to Pub/Sub and to the report port."""

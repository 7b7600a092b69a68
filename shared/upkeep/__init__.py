"""Work of every minute: watch VMs, end builds that are overdue, and delete what belongs to no build."""

"""Container-Optimized OS: its partitions and boot loader, and the maintenance boot that moves the partitions."""

"""What a disk is made of, as a value: partitions, volumes, file systems, and where each lies on a disk of a size."""

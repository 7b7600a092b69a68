"""Write a whole disk from a description and a tree of files: partitions, volumes, file systems, boot loader."""

"""Make an image to start from where there is none: from the archive of a root file system, or a container's image."""

"""Make an image where there is none: from packages, a root file system's archive, or a container's image."""

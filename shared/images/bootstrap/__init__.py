"""Make a minimal bootable image of a distribution's packages: its root tree and owners, and the disk."""

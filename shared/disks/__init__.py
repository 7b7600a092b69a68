"""Disks as files: partition tables, file systems, archives; read without mounting or running anything."""

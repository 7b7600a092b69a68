"""Below all else here: running programs and their control groups, files, archives, disks, partition tables, HTTP."""

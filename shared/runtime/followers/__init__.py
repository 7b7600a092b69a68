"""What the end of a build of this machine leads to, and what waits for the next one."""

"""The commands, one module a group. cli/ imports a command when it runs."""

"""The commands, one module a group. cli.py imports a command when it runs."""

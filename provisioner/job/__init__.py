"""One job on this machine, from its first boot to its end: run the steps in order, and report them."""

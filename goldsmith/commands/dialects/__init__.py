"""Files and command lines of other systems: what they come to as specs."""

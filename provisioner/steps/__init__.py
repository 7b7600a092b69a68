"""The actions of steps, one file each."""

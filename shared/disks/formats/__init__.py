"""Image files in many formats, written side by side from one disk, each read back by a program that is not ours."""

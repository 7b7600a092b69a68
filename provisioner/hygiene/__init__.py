"""Find secrets of the build, and what belongs to the build machine alone, in a finished image."""

"""Elements as diskimage-builder has them: which belong to an image, their scripts, and what their files ask for."""

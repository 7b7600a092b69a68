"""The origin of images: signed statements of who made them of what, and the checks of such statements."""

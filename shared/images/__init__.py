"""This machine's images: the catalogue, what is in an image, and where images come from."""

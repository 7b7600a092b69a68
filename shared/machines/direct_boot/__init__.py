"""Boot an image's own kernel without its boot loader."""

"""What an image is beside its disk: its description, its features, its keys of Secure Boot."""

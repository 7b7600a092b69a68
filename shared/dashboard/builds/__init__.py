"""The builds: their list, and each of them."""

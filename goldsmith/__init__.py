"""What a person types: the goldsmith command."""

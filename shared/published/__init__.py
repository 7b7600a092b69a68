"""What happens to images once they are published: check, promotion, revocation, retirement, distribution."""

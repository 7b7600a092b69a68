"""Commands about this machine itself: what it has, keeps and lacks."""

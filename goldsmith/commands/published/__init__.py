"""Commands that decide about published images: into which channel one comes, and which one is taken back."""

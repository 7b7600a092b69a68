"""Commands about published images: promoted, taken back, retired by rule, given to others."""

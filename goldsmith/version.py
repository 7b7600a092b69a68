"""The version of this tree, as CHANGELOG.md counts them."""

RELEASE = "0.1.0"

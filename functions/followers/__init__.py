"""The functions that are told of finished builds."""

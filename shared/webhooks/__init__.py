"""Webhooks: what is sent where when a build has finished, and how it is signed."""

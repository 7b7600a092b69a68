"""Traces of builds for OpenTelemetry: as values, and how they are sent to a collector."""

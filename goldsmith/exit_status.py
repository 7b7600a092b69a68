"""The exit statuses; docs/command-line.md lists them for users."""

from __future__ import annotations

from shared.errors import EnvironmentFault, GoldsmithError, InputError

NOT_SUCCEEDED = 1  # a build did not succeed, or the state could not be read or written
WRONG_INPUT = 2  # nothing was created
ENVIRONMENT = 3  # this machine or project lacks something
INTERRUPTED = 130  # ended with Ctrl-C


def of_error(error: GoldsmithError) -> int:
    """Return the exit status of what went wrong."""
    if isinstance(error, InputError):
        return WRONG_INPUT
    return ENVIRONMENT if isinstance(error, EnvironmentFault) else NOT_SUCCEEDED

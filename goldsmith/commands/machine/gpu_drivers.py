"""goldsmith gpu-drivers: the NVIDIA drivers that a step install-gpu can name."""

from __future__ import annotations

import os

from shared.errors import CloudError, EnvironmentFault
from shared.gpu_drivers import storage_of, valid_drivers

from ...screen.tables import print_json
from ...screen.text import say


def gpu_drivers(*, as_json: bool) -> None:
    """Print the versions, oldest first. EnvironmentFault when the bucket cannot be read."""
    try:
        found = valid_drivers(storage_of(os.environ))
    except CloudError as error:
        raise EnvironmentFault(f"{error}; connect this machine to the Internet") from error
    if as_json:
        print_json(found)
    else:
        say("\n".join(found))

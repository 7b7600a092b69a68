"""Runs goldsmith where a wheel was installed: the start of the package `goldsmith_installed`, which has the tree in it.

    site-packages/goldsmith_installed/__init__.py    this file
                                      goldsmith/     the packages of the checkout, under names that are too general
                                      shared/        for site-packages
                                      provisioner/
                                      setup/         apt-packages.sh

Not one of these is importable by other programs: the tree is put in front of the module path of this process alone.
"""

import os
import sys
from pathlib import Path


def main() -> int:
    """Run the command line; return the exit status."""
    sys.path.insert(0, str(Path(__file__).parent))
    sys.argv[0] = "goldsmith"
    os.environ["PATH"] = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"  # as setup/goldsmith does
    from shared.quick_dataclasses import install_quick_dataclasses

    install_quick_dataclasses()
    from goldsmith.__main__ import main as run

    return run()

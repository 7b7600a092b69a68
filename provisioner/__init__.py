"""The provisioner, which runs on the build VM: standard library only, shipped as one file for Python 3.6 or later."""

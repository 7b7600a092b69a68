"""What runs on the build VM: Python standard library only, Python 3.9 or later, shipped as one provisioner.pyz."""

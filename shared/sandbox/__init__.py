"""The chroot engine: a build's steps in namespaces of this machine, on a root file system read out of its disk."""

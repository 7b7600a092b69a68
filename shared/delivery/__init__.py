"""The files of a build VM: the provisioner as one archive, the cidata, and the disk that carries it."""

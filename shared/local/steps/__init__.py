"""The steps of builds on this machine: the layers that they leave, what a key of a layer is made of, what is cached."""

"""Compute Engine on this machine: its REST API, with QEMU's machines, sparse disk files and the local image catalogue.

endpoint.py     all of it together, and the faults that tests ask for
routes.py       requests and batches of them;  methods.py  what is served
contract.py     Google's message classes, which requests and answers are held to
images.py disks.py instances.py operations.py places.py     what there is
machines.py     one instance's QEMU;  metadata.py google_apis.py  what its guest reaches at link-local addresses
"""

"""Take away what makes this machine this one, before its disk becomes an image that many machines start from.

The order matters: what writes logs has been stopped (machine.py), and logs go last, since everything else may still
have written a line. Nothing that the image needs goes: folders stay where packages expect theirs.
"""

from __future__ import annotations

from .tree import Tree

IDENTITY = (
    "etc/ssh/ssh_host_*",
    "etc/udev/rules.d/70-persistent-net*",
    "etc/udev/rules.d/85-persistent-net*",
    "var/lib/NetworkManager/secret_key",
    "var/lib/systemd/credential.secret",
    "var/lib/systemd/random-seed",
)
NETWORK = (
    "etc/NetworkManager/system-connections/cloud-init-*",
    "etc/netplan/50-cloud-init.yaml",
    "etc/network/interfaces.d/50-cloud-init*",
    "etc/systemd/network/10-cloud-init-*",
    "var/lib/NetworkManager/*.lease",
    "var/lib/dhclient/*",
    "var/lib/dhcp/*.leases",
)
HISTORIES = ("home/*/.*_history", "home/*/.lesshst", "root/.*_history", "root/.lesshst")
EMPTIED = ("tmp", "var/lib/apt/lists", "var/log/journal", "var/tmp")  # the journal's folder is named by the machine-id
SEED = ("seed",)  # of cloud-init: where an image may bring its own configuration
DEBCONF = "/var/cache/debconf/"  # answers to questions, not a cache
CLOUD_INIT_LOGS = "/var/log/cloud-init"
ROTATED = (".gz", ".xz", ".zst", ".bz2", ".old", ".journal", ".journal~")


def clean(root: str) -> list[str]:
    """Clean the machine below `root`; give what could not be done, for people to read."""
    tree = Tree(root)
    tree.empty("etc/machine-id")  # empty, not absent: what machine-id(5) has for images of many machines
    for folder, path in tree.files("var/lib/dbus"):
        if path.endswith("/machine-id"):  # most images have a link to the other one here
            tree.remove_file(folder, path)
    tree.remove(*IDENTITY, *NETWORK, *HISTORIES)
    tree.remove_link("etc/resolv.conf", "/run/goldsmith/")  # the direct boot's, in images that had none
    tree.remove_inside("var/lib/cloud", keep=SEED)
    for folder, path in tree.files("var/cache"):
        if not path.startswith(DEBCONF):
            tree.remove_file(folder, path)
    for emptied in EMPTIED:
        tree.remove_inside(emptied)
    for folder, path in tree.files("var/log"):
        if _is_spent(path):
            tree.remove_file(folder, path)
        else:
            tree.empty_file(folder, path)
    return tree.problems


def _is_spent(log: str) -> bool:
    """Tell a log that nothing writes to any more from one whose writer wants to find it."""
    last = log.rpartition(".")[2]
    return log.endswith(ROTATED) or last.isdigit() or log.startswith(CLOUD_INIT_LOGS)

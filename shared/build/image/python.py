"""The Python that the provisioner needs in an image, and the public images that are known to have none that suits.

Any of 3.6 to 3.13 suits: Debian from 10, Ubuntu from 18.04, Enterprise Linux from 8 (as platform-python), SUSE Linux
Enterprise from 15, Container-Optimized OS from 81. Other images are tried: a VM without Python reports so at once.
Sources: cloud.google.com/compute/docs/images/os-details; the release notes of Container-Optimized OS (81-12871), SUSE
Linux Enterprise Server 12 and Ubuntu 16.04; coreos/fedora-coreos-tracker#32; flatcar.org/docs/latest.
"""

from __future__ import annotations

from ...names import COS_PROJECT

OLDEST = "3.6"
PROGRAMS = (  # where provisioner/bootstrap.sh looks
    *(f"/{folder}/python3" for folder in ("usr/local/sbin", "usr/local/bin", "usr/sbin", "usr/bin", "sbin", "bin")),
    "/usr/libexec/platform-python",
    *(f"/{folder}/python3.{minor}" for folder in ("usr/local/bin", "usr/bin") for minor in range(13, 5, -1)),
)

_FIRST_COS = 81  # milestone
_COS_NAME_PARTS = 4  # MILESTONE-A-B-C, behind cos and what else there may be
_UNFIT = (  # project, how its images' names begin, and what these are
    ("centos-cloud", ("centos-6-", "centos-7-"), "CentOS before 8 has Python 2"),
    ("debian-cloud", ("debian-7-", "debian-8-", "debian-9-"), "Debian before 10 has Python 3.5 or older"),
    ("fedora-coreos-cloud", ("fedora-coreos-",), "Fedora CoreOS has no Python"),
    ("kinvolk-public", ("flatcar-",), "Flatcar has no Python"),
    ("rhel-cloud", ("rhel-6-", "rhel-7-"), "Red Hat Enterprise Linux before 8 has Python 2"),
    ("rhel-sap-cloud", ("rhel-7-",), "Red Hat Enterprise Linux before 8 has Python 2"),
    ("suse-cloud", ("sles-11-", "sles-12-"), "SUSE Linux Enterprise before 15 has Python 3.4 or older"),
    ("suse-sap-cloud", ("sles-12-",), "SUSE Linux Enterprise before 15 has Python 3.4 or older"),
    (
        "ubuntu-os-cloud",
        ("ubuntu-12", "ubuntu-14", "ubuntu-16", "ubuntu-17", "ubuntu-minimal-16", "ubuntu-minimal-17"),
        "Ubuntu before 18.04 has Python 3.5 or older",
    ),
    ("ubuntu-os-pro-cloud", ("ubuntu-pro-16",), "Ubuntu before 18.04 has Python 3.5 or older"),
    ("windows-cloud", ("",), "Windows is no Linux"),
    ("windows-sql-cloud", ("",), "Windows is no Linux"),
)


def why_unfit(project: str, name: str) -> str | None:
    """Return what a public image lacks, for people; None for one that has a Python, or that is not known."""
    if project == COS_PROJECT:
        numbers = name.split("-")[-_COS_NAME_PARTS:]
        early = len(numbers) == _COS_NAME_PARTS and all(map(str.isdecimal, numbers)) and int(numbers[0]) < _FIRST_COS
        return f"Container-Optimized OS before milestone {_FIRST_COS} has no Python" if early else None
    return next((what for of, begins, what in _UNFIT if project == of and name.startswith(begins)), None)

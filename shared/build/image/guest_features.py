"""The features of a guest system that Compute Engine knows of an image (`guestOsFeatures`)."""

GUEST_FEATURES = (
    "BARE_METAL_LINUX_COMPATIBLE",
    "CCA_CAPABLE",
    "GVNIC",
    "IDPF",
    "MULTI_IP_SUBNET",
    "SEV_CAPABLE",
    "SEV_LIVE_MIGRATABLE",
    "SEV_LIVE_MIGRATABLE_V2",
    "SEV_SNP_CAPABLE",
    "SNP_SVSM_CAPABLE",
    "SUSPEND_SAFE_FPR",
    "TDX_CAPABLE",
    "UEFI_COMPATIBLE",
    "VIRTIO_SCSI_MULTIQUEUE",
    "WINDOWS",
)
"""As the client library of Compute Engine has them; a test compares the two."""

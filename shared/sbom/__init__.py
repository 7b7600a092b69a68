"""Bills of materials as documents: the packages of an image as SPDX and CycloneDX. workers/ stores them."""

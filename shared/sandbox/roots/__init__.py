"""The root of a sandbox: mounted from its disk, or unpacked into a folder; its layers; its way back into a disk."""

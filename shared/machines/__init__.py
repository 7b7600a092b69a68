"""Virtual machines of this host: QEMU's processes, and what their guests find around them."""

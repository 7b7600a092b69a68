"""The adapters of one machine: Compute, Store, Bus and Bucket on QEMU's machines, SQLite and folders."""

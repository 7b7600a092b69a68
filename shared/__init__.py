"""The core of an image build; its files: errors, names, sizes, ports, image ownership, keys, topology of the cloud."""

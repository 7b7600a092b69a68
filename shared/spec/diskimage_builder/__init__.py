"""disk-image-create's command lines and diskimage-builder's lists of images, as documents of specs."""

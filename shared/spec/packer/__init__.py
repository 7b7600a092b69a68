"""Packer's templates, HCL and JSON, as documents of specs and the files that go with them."""

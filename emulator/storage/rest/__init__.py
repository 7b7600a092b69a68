"""Cloud Storage's REST interface: paths, bodies, batches, refusals."""

"""Cloud KMS and Secret Manager, as far as builds and those who look after them need these."""

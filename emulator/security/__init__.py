"""Cloud KMS, as far as statements about images are signed with it and people make and disable keys."""

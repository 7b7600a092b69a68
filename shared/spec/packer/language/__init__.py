"""The language of templates: what is written, and what its expressions come to."""

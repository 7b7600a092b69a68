"""The functions that Google Cloud calls, one file each: decode, call shared/ once, encode. main.py re-exports them."""

import gc

# A cold start makes some 100,000 objects that all stay; to look through them again and again takes a twentieth of it.
gc.set_threshold(200_000)

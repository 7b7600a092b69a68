"""What Google Cloud calls, one file per function: decode, one call into shared/, encode. main.py re-exports them."""

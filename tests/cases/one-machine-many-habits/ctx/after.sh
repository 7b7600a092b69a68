echo "left: $(pgrep -c -f '^writer' || true)"

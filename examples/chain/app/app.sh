#!/bin/sh
# What the image is for.
exec echo "the app runs as $(id --user --name)"

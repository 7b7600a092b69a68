#!/bin/sh -e
sudo systemctl mask apt-daily.timer apt-daily-upgrade.timer

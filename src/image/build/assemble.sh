#!/bin/sh
# Customize hook of mmdebstrap: puts the recipe's files into the new root and runs its script
# there. Runs outside of the root, as its root user. $1 is the root.
set -eu
root=$1
payload=$(dirname "$0")

# mmdebstrap's copies of the host's files.
rm -f "$root/etc/hostname" "$root/etc/resolv.conf"
# The host's proxy is the host's; the guest is told its own at each start.
settings=$root/etc/apt/apt.conf.d/99mmdebstrap
if [ -e "$settings" ]; then
    sed -i '/^Acquire::https\?::Proxy/d' "$settings"
    [ -s "$settings" ] || rm -f "$settings"
fi

cp -R "$payload/root/." "$root/"

if [ -e "$payload/customize" ]; then
    cp "$payload/customize" "$root/tmp/customize"
    chroot "$root" /bin/sh /tmp/customize
    rm -f "$root/tmp/customize"
fi

#!/bin/sh
# Customize hook of mmdebstrap: puts the recipe's files into the new root and runs its script
# there. Runs outside of the root, as its root user. $1 is the root.
set -eu
root=$1
payload=$(dirname "$0")

# mmdebstrap's copies of the host's files.
rm -f "$root/etc/hostname" "$root/etc/resolv.conf"
# Settings for the build alone: the host's proxy, and dpkg's disregard of power losses.
for file in "$root/etc/apt/apt.conf.d/99mmdebstrap" "$root/etc/dpkg/dpkg.cfg.d/99mmdebstrap"; do
    if [ -e "$file" ]; then
        sed -i -e '/^Acquire::https*::Proxy/d' -e '/^force-unsafe-io/d' "$file"
        [ -s "$file" ] || rm "$file"
    fi
done

cp -R "$payload/root/." "$root/"

if [ -e "$payload/customize" ]; then
    cp "$payload/customize" "$root/tmp/customize"
    chroot "$root" /bin/sh /tmp/customize
    rm -f "$root/tmp/customize"
fi

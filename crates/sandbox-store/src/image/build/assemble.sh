#!/bin/sh
# Customize hook of mmdebstrap: copies the recipe's files to the new root $1 and runs the script
# there. It runs outside of the new root, as the root user of that root.
set -eu
root=$1
payload=$(dirname "$0")

# mmdebstrap has copied these files from the host.
rm -f "$root/etc/hostname" "$root/etc/resolv.conf"
# These settings are only for the build: the host's proxy, and dpkg's skipped flushes.
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

# Describes a running Debian in sections, without facts that depend on the way it was
# started. Runs as root, with the number of a login session as its argument.
set -u
session=$1
here=$(dirname "$0")
# Only the user can query the user's manager.
as_dev() {
    runuser -u dev -- env XDG_RUNTIME_DIR=/run/user/1000 "$@"
}
section() {
    printf '\n=== %s\n' "$1"
}
# No scopes, since their names have session numbers, and no devices, which depend on the
# machine.
kinds=service,socket,timer,target,path,automount,swap,slice
active_units() {
    "$@" --state=active --no-legend --plain | awk '{ print $1, $4 }' | sort
}

section state
systemctl is-system-running --wait
section failed
systemctl --failed --no-legend --plain
section units
active_units systemctl list-units --type=$kinds,mount
section unit-files
systemctl list-unit-files --no-legend --plain | awk '!/scope/ { print $1, $2 }' | sort
section user-state
as_dev systemctl --user is-system-running --wait
section user-units
active_units as_dev systemctl --user list-units --type=$kinds
section complaints
systemd-analyze verify --man=no default.target 2>&1
section timers
systemctl list-timers --all --no-legend --plain | grep -o '[^ ]*\.timer *[^ ]*$' | sort
section generated
cd /run/systemd && find . -path './generator*' ! -type d | sort
section ports
for port in /dev/virtio-ports/*; do
    test -c "$port" && basename "$port"
done
section session
loginctl show-session "$session" | grep -E '^(Name|Class|Type|State|Active|Remote)=' | sort
section user
loginctl show-user dev | grep -E '^(Name|State|Linger)=' | sort

# The package with a service is built here, so it needs no mirror.
package=/var/tmp/probe
install -d $package/DEBIAN $package/usr/lib/systemd/system
printf '%s\n' 'Package: probe' 'Version: 1' 'Architecture: all' 'Depends: systemd' \
    'Maintainer: nobody <nobody@localhost>' 'Description: a service' >$package/DEBIAN/control
printf '%s\n' '#!/bin/sh' 'set -e' 'systemctl daemon-reload' \
    'systemctl enable --quiet --now probe.service' >$package/DEBIAN/postinst
chmod 0755 $package/DEBIAN/postinst
printf '%s\n' '[Service]' 'ExecStart=/usr/bin/sleep infinity' '[Install]' \
    'WantedBy=multi-user.target' >$package/usr/lib/systemd/system/probe.service
section package
dpkg-deb --root-owner-group --build $package $package.deb >/dev/null &&
    DEBIAN_FRONTEND=noninteractive apt-get install --quiet --quiet --yes $package.deb >/dev/null
echo "status $?"
dpkg-query --show --showformat='${Package} ${Version} ${Status}\n' probe
systemctl is-active probe.service
# The new unit made systemd reload all units and run all generators again.
systemctl is-system-running
section end

# shellcheck shell=sh disable=SC2154 # `root` comes from the script
# Installs missing programs for the scripts beside this file, which source it.
#
# `root` must be the repository's directory, and the working directory must be `root`: rustup reads
# settings from the working directory. Nothing here writes to standard output, which belongs to the
# caller's command.

# Not every user's PATH has the programs of administrators (mkfs.ext4).
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

# Each line has a package of Debian and Ubuntu, and a program or file that it installs.
packages_to_run='
ca-certificates        /etc/ssl/certs/ca-certificates.crt
debian-archive-keyring /usr/share/keyrings/debian-archive-keyring.gpg
e2fsprogs              mkfs.ext4
mmdebstrap             mmdebstrap
openssh-client         ssh
qemu-system-x86        qemu-system-x86_64
qemu-utils             qemu-img
socat                  socat
uidmap                 newuidmap
'
packages_to_build='
gcc                    cc
libc6-dev              /usr/include/stdlib.h
'
packages_to_test='
curl                   curl
iproute2               ip
openssh-server         sshd
python3-pip            pip3
shellcheck             shellcheck
'

say() { printf 'sandbox: %s\n' "$*" >&2; }

fail() {
    say "error: $1"
    [ $# -lt 2 ] || say "hint: $2"
    exit 1
}

# missing_packages TABLE: prints the packages of the table that are not installed.
missing_packages() {
    printf '%s\n' "$1" | while read -r package proof; do
        case $proof in
        '') continue ;;
        /*) [ ! -e "$proof" ] || continue ;;
        *) ! command -v "$proof" >/dev/null || continue ;;
        esac
        printf '%s ' "$package"
    done
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    else
        sudo "$@"
    fi
}

# apt_get ARGS…: runs apt-get without questions, after another apt has ended.
apt_get() {
    as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get -o DPkg::Lock::Timeout=300 "$@" </dev/null >&2
}

# On Debian 12, all packages of QEMU must have one version. If one of them came from backports, the
# others must also come from there.
qemu_is_from_backports() {
    [ "$(. /etc/os-release && printf %s "${VERSION_CODENAME:-}")" = bookworm ] || return 1
    dpkg-query -W -f '${db:Status-Status} ${Version}\n' 'qemu-utils' 'qemu-system-*' 2>/dev/null |
        grep -q '^installed .*~bpo12'
}

add_backports() {
    file=/etc/apt/sources.list.d/bookworm-backports.sources
    # shellcheck disable=SC2016 # apt's own placeholders
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Codename: bookworm' 'Created-By: Packages' | head -n 1)
    say "adding the package source $file: bookworm-backports of ${mirror:=http://deb.debian.org/debian/}"
    printf '%s\n' 'Types: deb' "URIs: $mirror" 'Suites: bookworm-backports' 'Components: main' \
        'Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg' |
        as_root tee "$file" >/dev/null
}

# install_packages TABLE: installs the missing packages of the table. Takes no time if none is
# missing.
install_packages() {
    missing=$(missing_packages "$1")
    [ -n "$missing" ] || return 0
    command -v apt-get >/dev/null ||
        fail "missing on this machine: $missing" 'install these packages (names of Debian) of your distribution'
    [ "$(id -u)" -eq 0 ] || command -v sudo >/dev/null ||
        fail "missing on this machine: $missing" "run as root: apt-get install $missing"

    say "installing with apt-get: $missing"
    qemu='' others=''
    for package in $missing; do
        case $package in
        qemu-*) qemu="$qemu $package" ;;
        *) others="$others $package" ;;
        esac
    done
    release=''
    if [ -n "$qemu" ] && qemu_is_from_backports; then
        release=bookworm-backports
        say "installing$qemu from $release, like the installed packages of QEMU"
        apt-cache policy | grep -q "n=$release" || add_backports
    fi
    apt_get update -q
    # shellcheck disable=SC2086 # lists of words
    [ -z "$others" ] || apt_get install -qy --no-install-recommends $others
    # shellcheck disable=SC2086
    [ -z "$qemu" ] || apt_get install -qy --no-install-recommends ${release:+-t "$release"} $qemu
}

# rustup's cargo follows rust-toolchain.toml. A distribution's cargo does not, so it must be new
# enough.
rust_toolchain=$(sed -n 's/^channel = "\(.*\)"/\1/p' "$root/rust-toolchain.toml")
least_rust=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$root/Cargo.toml")

# cargo_version COMMAND…: prints its version, or nothing.
cargo_version() {
    "$@" --version 2>/dev/null </dev/null | cut -d ' ' -f 2
}

# is_suitable CARGO: succeeds for rustup's cargo of the pinned toolchain, and for a new enough one.
is_suitable() {
    rustup=$(dirname "$1")/rustup
    if [ -x "$rustup" ]; then
        # With `run`, rustup installs nothing.
        [ "$(cargo_version "$rustup" run "$rust_toolchain" cargo)" = "$rust_toolchain" ]
        return
    fi
    version=$(cargo_version "$1")
    [ -n "$version" ] && [ "$(printf '%s\n' "$least_rust" "$version" | sort -V | head -n 1)" = "$least_rust" ]
}

install_rustup() {
    # The distribution's rustup would remove the distribution's cargo, so keep an installed cargo.
    if ! command -v cargo >/dev/null && apt-cache policy rustup 2>/dev/null | grep -q 'Candidate: [0-9]'; then
        install_packages 'rustup rustup'
    else
        install_packages 'curl curl'
        # The script behind https://sh.rustup.rs, from the host of the toolchains.
        source=https://static.rust-lang.org/rustup/rustup-init.sh
        say "installing rustup in ~/.cargo from $source"
        installer=$(mktemp)
        curl --proto '=https' --tlsv1.2 -sSf -o "$installer" "$source"
        sh "$installer" -y --no-modify-path --profile minimal --default-toolchain none >&2 </dev/null
        rm "$installer"
    fi
}

# install_rust COMPONENT…: puts a suitable cargo and its rustc first on the PATH. Installs them if
# needed.
install_rust() {
    suitable=''
    for cargo in "$(command -v cargo || :)" "${CARGO_HOME:-$HOME/.cargo}/bin/cargo"; do
        if [ -z "$suitable" ] && [ -x "$cargo" ] && is_suitable "$cargo"; then
            suitable=$cargo
        fi
    done
    PATH=$(dirname "${suitable:-${CARGO_HOME:-$HOME/.cargo}/bin/cargo}"):$PATH
    if [ -z "$suitable" ]; then
        command -v rustup >/dev/null || install_rustup
        if [ "$(cargo_version rustup run stable cargo)" = "$rust_toolchain" ]; then
            # This is the same toolchain under another name, so it needs no download.
            export RUSTUP_TOOLCHAIN=stable
        elif [ "$(cargo_version rustup run "$rust_toolchain" cargo)" != "$rust_toolchain" ]; then
            say "installing Rust $rust_toolchain in ${RUSTUP_HOME:-~/.rustup}"
            # rustup's cargo needs the components of rust-toolchain.toml.
            rustup toolchain install "$rust_toolchain" --profile minimal \
                --component clippy --component rustfmt --no-self-update >&2 </dev/null
        fi
    fi
    for component; do
        # The program of the component `rustfmt` is `cargo fmt`.
        cargo "${component#rust}" --version >/dev/null 2>&1 || add_component "$component"
    done
}

add_component() {
    command -v rustup >/dev/null ||
        fail "$1 not found" "install the package of your distribution that has cargo ${1#rust}"
    rustup component add "$1" >&2 </dev/null
}

# Installs the requirements to build and run `sandbox`.
install_for_use() {
    install_packages "$packages_to_run$packages_to_build"
    install_rust
}

# Also installs the requirements of the tests.
install_for_tests() {
    command -v sshd >/dev/null || mask_ssh_service
    install_packages "$packages_to_run$packages_to_build$packages_to_test"
    install_rust clippy rustfmt
    install_tools
}

# Installs the programs of tools.txt into target/tools and nothing outside of it. Their versions are
# the same on every machine.
install_tools() {
    tools=$root/target/tools
    if ! cmp -s "$root/scripts/tools.txt" "$tools/tools.txt"; then
        say "installing in target/tools: $(sed -n 's/^\([^# ]*\) .*/\1/p' "$root/scripts/tools.txt" | tr '\n' ' ')"
        rm -rf "$tools"
        pip3 install --quiet --disable-pip-version-check --root-user-action ignore \
            --no-deps --only-binary :all: --require-hashes \
            --target "$tools" --requirement "$root/scripts/tools.txt" >&2 </dev/null ||
            fail 'could not install the checkers of scripts/tools.txt' 'give pip access to a package index'
        cp "$root/scripts/tools.txt" "$tools/"
    fi
    PATH=$tools/bin:$PATH
}

# The tests start an sshd of their own. The package's service would open port 22 of this machine to
# the network.
mask_ssh_service() {
    units=/etc/systemd/system
    for unit in ssh.service ssh.socket; do
        [ ! -e "$units/$unit" ] || continue
        say "masking $unit: openssh-server is installed for the tests only"
        as_root mkdir -p "$units"
        as_root ln -s /dev/null "$units/$unit"
    done
}

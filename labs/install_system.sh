#!/bin/sh
# Install what labs and tests need of the system, where it is missing: Open vSwitch, FRR, iproute2, kubectl, and a few tools.
# Usage: install_system.sh [PROGRAM:PACKAGE…], further programs that are needed and the packages that have them.
# Services are not started: a lab runs its own daemons of Open vSwitch and FRR.
set -eu
missing=""
need() { command -v "$1" >/dev/null 2>&1 || missing="$missing $2"; }
need ovs-vswitchd openvswitch-switch
need ovsdb-server openvswitch-switch
need ip iproute2
need kubectl kubernetes-client
need ping iputils-ping
need curl curl
need tcpdump tcpdump
need ethtool ethtool
need openssl openssl
need /usr/lib/frr/bgpd frr
for further in "$@"; do need "${further%%:*}" "${further##*:}"; done
[ -z "$missing" ] && exit 0
if [ "$(id -u)" != 0 ]; then
    echo "open-ncp: run as root, or install:$missing" >&2
    exit 2
fi
if ! command -v apt-get >/dev/null 2>&1; then
    echo "open-ncp: this is not a Debian system; install:$missing" >&2
    exit 2
fi
echo "installing$missing" >&2
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
    trap 'rm -f "$policy"' EXIT
fi
apt-get update -qq
# shellcheck disable=SC2086
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null

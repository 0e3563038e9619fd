#!/bin/sh
# A CNI plugin as small as one can be: a veth pair between the pod and a bridge of its node.
# $1: directory with the counter, the log of calls, and a file named "fail" while ADD shall fail. $2: the node's namespace.
set -eu
cat >/dev/null
exec 9>"$1/lock"
args=";$CNI_ARGS"
pod="${args#*;K8S_POD_NAMESPACE=}"; pod="${pod%%;*}"
name="${args#*;K8S_POD_NAME=}"; name="${name%%;*}"
port="v$(printf %.12s "$CNI_CONTAINERID")"
flock 9
echo "$CNI_COMMAND $pod/$name $CNI_CONTAINERID ${CNI_NETNS##*/}" >>"$1/calls"
if [ "$CNI_COMMAND" = DEL ]; then
    flock -u 9
    ip -n "$2" link del "$port" 2>/dev/null || true
    exit 0
fi
if [ -e "$1/fail" ]; then
    echo '{"cniVersion":"1.0.0","code":100,"msg":"no address left"}'
    exit 1
fi
number=$(($(cat "$1/number" 2>/dev/null || echo 1) + 1))
echo "$number" >"$1/number"
flock -u 9
low=$((number % 256)); high=$((number / 256))
inside="${CNI_NETNS##*/}"
ip link add "$port" netns "$2" type veth peer name eth0 netns "$inside"
ip -n "$2" -batch - <<EOF
link set $port master br0 up
EOF
ip -n "$inside" -batch - <<EOF
addr add 10.9.$high.$low/16 dev eth0
addr add fd09::$(printf %x "$number")/64 dev eth0 nodad
link set eth0 up
EOF
printf '{"cniVersion":"1.0.0","ips":[{"address":"10.9.%d.%d/16"},{"address":"fd09::%x/64"}]}' "$high" "$low" "$number"

#!/bin/bash
# Build kube-apiserver from the distribution's own source package, and unpack its etcd, into a cache outside the tree.
#
#   labs/build_kube_apiserver.sh [--force]
#
# Prints the directory that holds `kube-apiserver` and `etcd`; returns at once when the cache has them.
# Nothing is installed and no file of the system changes: apt runs on private lists, packages are only unpacked, so no
# service starts and no root is needed. Wants Debian (or a relative with the source package `kubernetes`) and dpkg-dev.
#
#   NCP_CACHE   where caches live                        (default ~/.cache/open-ncp)
#   NCP_JOBS    how many packages to compile at a time   (default: one per processor)
set -euo pipefail

cache="${NCP_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/open-ncp}/kube"
jobs="${NCP_JOBS:-$(nproc)}"

say() { printf '%s\n' "$*" >&2; }
die() { say "build_kube_apiserver: $*"; exit 1; }

cached() { # prints the newest complete directory of the cache
    local directory
    for directory in $(ls -d "$cache"/[0-9]* 2>/dev/null | sort -rV); do
        if [ -x "$directory/kube-apiserver" ] && [ -x "$directory/etcd" ]; then
            echo "$directory"
            return 0
        fi
    done
    return 1
}

case "${1:-}" in
    "") if cached; then exit 0; fi ;;
    --force) ;;
    *) say "usage: $0 [--force]"; exit 2 ;;
esac

for tool in apt-get apt-cache dpkg dpkg-source make flock tar; do
    command -v "$tool" >/dev/null || die "needs $tool: on Debian, apt-get install dpkg-dev make util-linux"
done

mkdir -p "$cache"
exec 9>"$cache/.lock"
flock 9 # a second build waits, then finds the first one's work
if [ "${1:-}" != --force ] && cached; then exit 0; fi

free_kib=$(df -Pk "$cache" | awk 'NR == 2 { print $4 }')
[ "$free_kib" -gt 5000000 ] || die "$cache: $((free_kib / 1024)) MiB free, the build takes about 4 GiB; set NCP_CACHE elsewhere"

work=$(mktemp -d "$cache/build.XXXXXX")
cleanup() { chmod -R u+w "$work" 2>/dev/null || true; rm -rf "$work"; }
trap cleanup EXIT
trap 'exit 130' INT TERM
cd "$work"

# --- packages: the machine's own mirrors with sources switched on, in lists of our own
mkdir -p sources apt/lists/partial apt/cache/archives/partial packages
for file in /etc/apt/sources.list.d/*.sources; do
    [ -e "$file" ] || continue
    sed -E 's/^Types:.*/Types: deb deb-src/' "$file" >"sources/$(basename "$file")"
done
for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
    [ -e "$file" ] || continue
    sed -nE 's/^deb(-src)?[[:space:]]+(.*)/deb \2\ndeb-src \2/p' "$file" | sort -u >"sources/$(basename "$file")"
done
apt_options=(
    -q -o APT::Sandbox::User= -o Dir::Etc::SourceList=/dev/null -o "Dir::Etc::SourceParts=$work/sources"
    -o "Dir::State::Lists=$work/apt/lists" -o "Dir::Cache=$work/apt/cache"
)
say "reading package lists"
apt-get "${apt_options[@]}" update >apt.log 2>&1 || { cat apt.log >&2; die "apt-get update failed (above)"; }

golang=$(apt-cache "${apt_options[@]}" depends golang-go | sed -nE 's/^ *Depends: (golang-[0-9.]+-go)$/\1/p' | head -1)
[ -n "$golang" ] || die "no versioned golang package behind golang-go in the configured apt sources"
reflect2=golang-github-modern-go-reflect2-dev
say "fetching kubernetes (source), etcd-server and $golang"
(
    cd packages
    apt-get "${apt_options[@]}" download etcd-server "$golang" "${golang%-go}-src" "$reflect2"
    apt-get "${apt_options[@]}" --only-source --download-only source kubernetes
) >fetch.log 2>&1 || { cat fetch.log >&2; die "could not fetch the packages (above); the apt sources must offer them"; }
for package in packages/*.deb; do dpkg -x "$package" unpacked; done
dpkg-source -x packages/kubernetes_*.dsc kubernetes >unpack.log 2>&1 || { cat unpack.log >&2; die "unpacking failed (above)"; }

# --- the version: 1.20.5+really1.20.2-1.1 is 1.20.2
version=$(sed -nE 's/^Version: (.*)/\1/p' packages/kubernetes_*.dsc | head -1 | sed -E 's/^[0-9]+://; s/-[^-]*$//; s/.*really//; s/[+~].*//')
[[ "$version" =~ ^[0-9]+\.[0-9]+\.[0-9]+$ ]] || die "cannot read Kubernetes' version in $(ls packages/*.dsc): got '$version'"

# --- build, as the package's own rules do: the tree linked into a GOPATH of its own, its vendored modules, no network
goroot=$(ls -d "$work"/unpacked/usr/lib/go-*)
mkdir -p kubernetes/.go/src/k8s.io
ln -s ../../.. kubernetes/.go/src/k8s.io/kubernetes
# Kubernetes before 1.24 vendors a reflect2 that walks maps as Go did before 1.18: the first custom resource would kill
# the server. The distribution's own reflect2 knows both ways.
vendored=kubernetes/vendor/github.com/modern-go/reflect2
if [ ! -e "$vendored/go_above_118.go" ]; then
    rm "$vendored"/*.go "$vendored"/*.s
    cp unpacked/usr/share/gocode/src/github.com/modern-go/reflect2/*.{go,s} "$vendored/"
    rm -f "$vendored"/*_test.go
fi
major=${version%%.*} minor=${version#*.} minor=${minor%%.*}
cat >kube.version <<VERSION
KUBE_GIT_COMMIT='debian'
KUBE_GIT_TREE_STATE='archive'
KUBE_GIT_VERSION='v$version'
KUBE_GIT_MAJOR='$major'
KUBE_GIT_MINOR='$minor'
VERSION
mkdir bin # its makefile places binaries with `rsync -pc FILE DIRECTORY`, and nothing else wants rsync
printf '#!/bin/sh\nshift\nexec cp -p "$@"\n' >bin/rsync && chmod +x bin/rsync
say "building kube-apiserver $version with $("$goroot/bin/go" version | cut -d' ' -f3): several minutes"
started=$SECONDS
(
    cd kubernetes
    env -u GOFLAGS -u GOBIN PATH="$work/bin:$goroot/bin:$PATH" GOROOT="$goroot" GOPATH="$PWD/.go" GOCACHE="$work/go-cache" HOME="$work" \
        GOTOOLCHAIN=local GOPROXY=off GOSUMDB=off CGO_ENABLED=0 KUBE_GIT_VERSION_FILE="$work/kube.version" \
        nice make WHAT=cmd/kube-apiserver GOFLAGS="-p=$jobs"
) >build.log 2>&1 || {
    tail -40 build.log >&2
    cp build.log "$cache/build.log"
    die "the build failed (above; all of it in $cache/build.log)"
}

binary=$(find -L kubernetes/_output -maxdepth 5 -type f -name kube-apiserver | head -1)
[ -n "$binary" ] || die "make left no kube-apiserver under _output"
target="$cache/$version"
mkdir -p "$target"
install -m 0755 unpacked/usr/bin/etcd "$target/.etcd" && mv "$target/.etcd" "$target/etcd"
install -m 0755 "$binary" "$target/.kube-apiserver" && mv "$target/.kube-apiserver" "$target/kube-apiserver"
say "$("$target/kube-apiserver" --version) built in $((SECONDS - started)) s"
echo "$target"

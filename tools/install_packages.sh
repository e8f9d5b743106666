#!/bin/sh
# Installs what packages.txt lists and this machine lacks. Does nothing when all is there. As root, or through sudo.
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
scope=${1:-all}
missing=""
for p in $(if [ "$scope" = build ]; then sed '/^# test/,$d' "$here/packages.txt"; else cat "$here/packages.txt"; fi | grep -v '^#'); do
    # A program of that name counts too: npm comes within nodejs where that is not Debian's own, and the two packages exclude each other.
    if ! dpkg-query -W -f='${Status}' "$p" 2>/dev/null | grep -q 'ok installed' && ! command -v "$p" >/dev/null; then
        missing="$missing $p"
    fi
done
[ -n "$missing" ] || exit 0
sudo=""
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || { echo "These packages are missing:$missing. Install them as root, then run again." >&2; exit 1; }
    sudo=sudo
fi
echo "Installing:$missing"
$sudo env DEBIAN_FRONTEND=noninteractive apt-get update -qq
# shellcheck disable=SC2086
$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null

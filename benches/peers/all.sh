#!/bin/sh
# cacheback beside every other cache: sh benches/peers/all.sh [SECONDS [ROUNDS]]
#
# Installs what it needs, builds with optimisation, runs every case, and prints on its standard output one table in
# Markdown, what it was measured with and how each contender was set. SECONDS (10) and ROUNDS (3) are those of each server
# over sockets. Keep the machine quiet meanwhile: it takes some nine minutes, without the build, and two cores.
set -eu
cd "$(dirname "$0")"

missing() { for tool; do command -v "$tool" >/dev/null || return 0; done; return 1; }
if missing valgrind wrk nginx varnishd redis-server curl; then
    apt-get update -q >&2
    apt-get install -qy valgrind wrk nginx varnish redis-server curl >&2
fi

cargo build --release >&2
programs=${CARGO_TARGET_DIR:-target}/release
figures=$(mktemp)
trap 'rm -f "$figures"' EXIT
echo 'in process' >&2
"$programs/peers" time >"$figures"
"$programs/allocations" >>"$figures"
echo 'instructions' >&2
sh instructions.sh "$programs" >>"$figures"
echo 'over Redis' >&2
"$programs/redis" >>"$figures"
echo 'over sockets' >&2
sh sockets.sh "$programs" "${1:-10}" "${2:-3}" >>"$figures"

cat <<TEXT
$(date -u +%Y-%m-%d), \`sh benches/peers/all.sh\`: $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1), $(nproc) processors, \
$(uname -sr), $(rustc --version | cut -d' ' -f1,2), $(valgrind --version), $(wrk -v 2>&1 | sed -n 's/^\(wrk [^ ]*\).*/\1/p')

TEXT
"$programs/peers" table <"$figures"

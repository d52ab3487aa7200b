#!/bin/sh
# Every check of this repository, on a machine that has Rust: sh tests/all.sh
# Formatting, lints, all tests with all features and with none, a gRPC client in Python, Redis servers of other makes, doc
# tests (the README's among them), the models of what threads share, a million URLs, a minute under fire, the docs,
# examples and benches, and how many instructions a hit takes. The first step that fails ends it.
set -eu
cd "$(dirname "$0")/.."

step() { printf '\n== %s\n' "$*"; "$@"; }

# What the checks need and a toolchain may lack.
cargo fmt --version >/dev/null 2>&1 || rustup component add rustfmt
cargo clippy --version >/dev/null 2>&1 || rustup component add clippy
if ! { redis-server --version && faketime --version && openssl version && valgrind --version; } >/dev/null 2>&1; then
    step apt-get update -q
    step apt-get install -qy redis-server faketime openssl valgrind
fi

# Where tests write what a Redis in trouble costs.
figures="${CARGO_TARGET_DIR:-target}/tmp/redis-figures"
mkdir -p "$(dirname "$figures")"
: >"$figures"

export CARGO_TERM_COLOR=never
step cargo fmt --all --check
step cargo clippy --locked --all-targets --all-features -- -D warnings
step cargo clippy --locked --lib --no-default-features -- -D warnings
step cargo test --locked --all-features --lib --bins --tests --examples
# A gRPC client of another make, in an environment of its own.
python="${CARGO_TARGET_DIR:-target}/python"
if ! "$python/bin/python" -c 'import grpc, grpc_tools' 2>/dev/null; then
    python3 -c 'import venv, ensurepip' 2>/dev/null || { step apt-get update -q && step apt-get install -qy python3-venv; }
    step python3 -m venv "$python"
    step "$python/bin/pip" install --quiet grpcio==1.76.0 grpcio-tools==1.76.0 setuptools==80.9.0
fi
PYTHON="$(cd "$python" && pwd)/bin/python"
step env PYTHON="$PYTHON" cargo test --locked --all-features --test grpc -- --ignored
# Servers of other versions and makes.
step env PYTHON="$PYTHON" sh tests/redis/versions.sh together:: invalidation::
step cargo test --locked --all-features --doc
step cargo test --locked --no-default-features --lib --tests
step env RUSTFLAGS="--cfg cacheback_model" cargo test --locked --profile model \
    --target-dir "${CARGO_TARGET_DIR:-target}/models" --lib models::
step cargo test --locked --release --all-features --test memory a_million
# A minute under fire, beside what follows: it minds no busy machine.
soaked="$(dirname "$figures")/soak"
step cargo build --locked --release --all-features --example soak
"${CARGO_TARGET_DIR:-target}/release/examples/soak" --seconds 60 >"$soaked" 2>&1 &
soak=$!
trap 'kill "$soak" 2>/dev/null || :' EXIT
step env RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --all-features
step cargo check --locked --examples
step cargo test --locked --all-features --benches
step sh benches/instructions.sh

printf '\n== a minute under fire\n'
wait "$soak" && ended=0 || ended=$?
cat "$soaked"
[ "$ended" = 0 ]

printf '\n== what a Redis in trouble costs: the longest request while all is well, until the breaker opens, and from then on;\n'
printf '== and how long it takes from when the trouble is over until instances share again\n'
printf '| %-40s | requests | failed | %9s | %9s | %9s | %9s |\n' scenario well trouble open recovery
sort "$figures"

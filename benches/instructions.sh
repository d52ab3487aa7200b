#!/bin/sh
# How many instructions a hit and a miss take: sh benches/instructions.sh [--record]
#
# Runs `instructions.rs` with all features under callgrind, once, and prints a table. Each case is called a thousand times
# after a hundred calls that are not looked at, and its figure is the instructions of one call; less the harness (making
# and dropping the request) it is the net. It differs by less than 1 % from one run to the next, and fails where a net is
# more than 3 % above that of the record in `instructions.txt`, or a case is recorded and not found. Another compiler makes
# other code: with another one than that of the record, each case is held against the ideal hit of the same run instead.
# `--record` writes the record anew: for when it is meant to change.
set -eu
cd "$(dirname "$0")/.."
record=benches/instructions.txt
out="${CARGO_TARGET_DIR:-target}/callgrind"
rm -rf "$out"
mkdir -p "$out"

cargo bench --locked --all-features --bench instructions --no-run --message-format=json >"$out/build"
program=$(sed -n 's/.*"executable":"\([^"]*instructions[^"]*\)".*/\1/p' "$out/build" | tail -n 1)
# Each time that `measured` is about to be called what was counted since is written down.
valgrind --tool=callgrind --collect-atstart=no --toggle-collect=instructions::measured \
    --dump-before=instructions::measured --callgrind-out-file="$out/cost" "$program" >"$out/cases" 2>"$out/log" ||
    { cat "$out/log"; exit 1; }

compiler=$(rustc -V)
number=1
{
    echo "# $compiler"
    while IFS='|' read -r name calls; do
        number=$((number + 1))
        cost="$out/cost.$number"
        [ -e "$cost" ] || cost="$out/cost"
        echo "$name|$(($(sed -n 's/^totals: //p' "$cost") / calls))"
    done <"$out/cases"
} >"$out/figures"
if [ "${1-}" = --record ]; then
    cp "$out/figures" "$record"
fi

awk -F'|' -v compiler="# $compiler" '
    # What a case takes less the harness, which is in all that make a request.
    function net(of, name) { return name == "harness" || name ~ /^typed/ ? of[name] : of[name] - of["harness"] }
    FNR == 1 { file++; if (file == 1) same = $0 == compiler; next }
    file == 1 { recorded[$1] = $2; next }
    { found[$1] = $2; names[++count] = $1 }
    END {
        print "| case | instructions | net | net / ideal | recorded | |\n|---|--:|--:|--:|--:|--:|"
        # What is expected of a case is what is recorded, as many times as the ideal hit takes more than it did.
        scale = same ? 1 : net(found, "ideal hit") / net(recorded, "ideal hit")
        for (at = 1; at <= count; at++) {
            name = names[at]
            ideal = net(found, name) / net(found, "ideal hit")
            growth = name in recorded ? 100 * (net(found, name) / scale / net(recorded, name) - 1) : 100
            printf "| %s | %d | %d | %.2f | %d | %+.1f %% |\n", name, found[name], net(found, name), ideal, recorded[name], growth
            if (growth > 3) { failed = failed "\n" name }
        }
        for (name in recorded) { if (!(name in found)) { lost = lost "\n" name } }
        if (failed) { print "\nmore than 3 % above the record:" failed }
        if (lost) { print "\nrecorded and not found:" lost }
        if (failed lost) { exit 1 }
    }' "$record" "$out/figures"

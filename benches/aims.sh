#!/bin/sh
# What was aimed at and what is reached, in one table: sh benches/aims.sh [SECONDS [ROUNDS]]
#
# Runs every bench there is, those of `peers` among them, and prints on its standard output first their tables and then
# this one. SECONDS (10) and ROUNDS (3) are those of each server over sockets. Keep the machine quiet meanwhile: it takes
# some twelve minutes, without the builds, and two cores. Why what is not reached is not: src/guide/speed.md.
set -eu
cd "$(dirname "$0")/.."
out="${CARGO_TARGET_DIR:-target}/aims"
mkdir -p "$out"

# Keeps what a bench prints, and shows it.
kept() { name=$1; shift; "$@" >"$out/$name"; printf '\n%s\n\n' "$*"; grep -v '^$' "$out/$name"; }
# The column of the row that begins with these cells: cell FILE COLUMN CELL...
cell() {
    file=$out/$1 column=$2; shift 2
    begin='|'; for each; do begin="$begin $each |"; done
    awk -F ' *[|] *' -v begin="$begin" -v column="$column" 'index($0, begin) == 1 { print $column; exit }' "$file"
}
# What stands in brackets behind a figure, and first there.
within() { sed 's/.*(\([0-9.]*\).*/\1/'; }
ratio() { awk -v a="$1" -v b="$2" 'BEGIN { printf "%.2f", a / b }'; }
# A row: aim WHAT BOUND REACHED, where the bound is "<= 1.25", or ">= 0.9".
aim() {
    awk -v what="$1" -v bound="$2" -v reached="$3" 'BEGIN {
        split(bound, of, " ")
        met = of[1] == "<=" ? reached + 0 <= of[2] : reached + 0 >= of[2]
        printf "| %s | %s | %s | %s |\n", what, bound, reached, met ? "yes" : "no"
    }'
}

kept instructions sh benches/instructions.sh
kept hit cargo bench --locked --bench hit
kept threads cargo bench --locked --bench threads
kept allocations cargo bench --locked --bench allocations
kept redis cargo bench --locked --all-features --bench redis
kept peers sh benches/peers/all.sh "${1:-10}" "${2:-3}"

net() { cell hit 4 "$1"; }
counted() { cell instructions 4 "$1"; }
sockets() { cell peers 12 "$1" | within; }
ours='**cacheback**'
# The labels of the servers, as they come in the table: without options of ours, and with.
server() { sed -n "s/^| \($1[^|]*\) |.*/\1/p" "$out/peers" | sed -n "$2p"; }
nginx=$(server nginx 1) sendfile=$(server nginx 2) varnish=$(server Varnish 1)

printf '\n| what | aim | reached | met |\n|---|--:|--:|---|\n'
aim 'fresh hit / ideal hit, time' '<= 1.25' "$(cell hit 5 'fresh hit')"
aim 'the same, instructions' '<= 1.25' "$(cell instructions 5 'fresh hit')"
aim 'fresh hit / bare axum handler, time' '<= 0.45' "$(cell hit 6 'fresh hit')"
aim 'the same, instructions' '<= 0.45' "$(ratio "$(counted 'fresh hit')" "$(counted 'bare axum handler')")"
aim 'allocations of a fresh hit' '<= 4' "$(cell allocations 3 'fresh hit')"
aim 'typed: fresh hit / look-up in the engine, time' '<= 1.5' "$(ratio "$(net 'typed, fresh hit')" "$(net 'typed, the engine alone')")"
aim 'stale hit / fresh hit, time' '<= 1.1' "$(ratio "$(net 'stale hit while a refresh runs')" "$(net 'fresh hit')")"
aim 'the same, one more field' '<= 1.1' "$(ratio "$(net 'stale hit, one more field')" "$(net 'fresh hit')")"
aim 'fresh hit of 1 MiB / of 1 KiB, time' '<= 1.05' "$(ratio "$(net 'fresh hit, 1 MiB')" "$(net 'fresh hit')")"
aim 'two threads on one page / the ideal hit' '>= 0.9' "$(cell threads 6 1 2)"
aim 'one thread on one page / the ideal hit, requests and all' '>= 0.9' "$(cell threads 6 1 1)"
aim 'two threads on 10,000 pages / the ideal hit' '>= 0.9' "$(cell threads 6 '10,000, zipf' 2)"
whole() { cell instructions 3 "$1"; }
aim 'miss / bare axum handler, instructions, requests and all' '<= 2.5' "$(ratio "$(whole miss)" "$(whole 'bare axum handler, new pages')")"
aim 'p99 of 1,000 readers of a cold key, ms' '<= 60' "$(cell peers 11 "$ours" | sed 's/.*, //')"
aim 'bytes of an entry beyond key, fields and body' '<= 400' "$(sed -n 's/^An entry takes \([0-9]*\) bytes.*/\1/p' "$out/allocations")"
aim 'over sockets / bare axum handler' '>= 1.05' "$(sockets "$ours")"
aim "over sockets / $nginx" '>= 1.7' "$(ratio "$(sockets "$ours")" "$(sockets "$nginx")")"
aim "over sockets / $sendfile" '>= 1.7' "$(ratio "$(sockets "$ours")" "$(sockets "$sendfile")")"
aim "over sockets / $varnish" '>= 2.2' "$(ratio "$(sockets "$ours")" "$(sockets "$varnish")")"
aim 'over Redis, nothing in memory / bare GET' '>= 0.65' "$(cell redis 4 'a hit of a cache without memory')"

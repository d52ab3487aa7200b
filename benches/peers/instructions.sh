#!/bin/sh
# How many instructions each case takes: sh instructions.sh DIRECTORY-OF-PROGRAMS
#
# The program runs each case under callgrind, some times and then twice as often: the difference is what so many calls
# take, without all that is done once. Prints `who|case instructions|count`, the harness among the others.
set -eu
programs=$1

# counted CASE WHO TIMES
counted() {
    valgrind --tool=callgrind --callgrind-out-file=/dev/null "$programs/peers" call "$@" 2>&1 |
        sed -n 's/.*Collected : //p'
}

count() {
    case=$1
    who=$2
    few=$(counted "$case" "$who" 200)
    many=$(counted "$case" "$who" 400)
    echo "$who|$case instructions|$(((many - few) / 200))"
}

caches="cacheback axum-response-cache tower-http-cache hitbox-bincode hitbox-json http-cache-tower-server"
for who in harness constant ideal bare $caches; do
    count fresh "$who"
done
for who in cacheback tower-http-cache hitbox-bincode hitbox-json; do
    count stale "$who"
done
for who in harness bare $caches; do
    count miss "$who"
done

#!/bin/sh
# Hits over sockets: sh sockets.sh DIRECTORY-OF-PROGRAMS [SECONDS [ROUNDS]]
#
# 64 connections of HTTP/1.1 that are kept alive, asked by wrk on the machine's second core; each server in turn has the
# first one for itself. Prints `who|sockets|requests per second` once for each round, and checks of everyone that its
# second answer was a hit (the handler ran once) with the body and the fields of the first.
set -eu
programs=$(cd "$1" && pwd)
seconds=${2:-10}
rounds=${3:-3}
cd "$(dirname "$0")"

# nginx keeps its cache here, Varnish its log; a directory in memory.
scratch=$(mktemp -d /dev/shm/peers.XXXXXX)
chmod 755 "$scratch"
servers=
trap 'for server in $servers; do kill "$server" 2>/dev/null || true; done; rm -rf "$scratch"' EXIT
trap 'exit 1' INT TERM

port=$((20000 + $$ % 10000))
next_port() { port=$((port + 1)); }

# start WHO COMMAND…: starts a server on the first core; its id is in $started.
start() {
    name=$1
    shift
    taskset -c 0 "$@" >"$scratch/$name.out" 2>"$scratch/$name.err" &
    started=$!
    servers="$servers $started"
}

# The request of all cases: a GET with eight fields, of which wrk writes Host itself.
ask() {
    program=$1
    shift
    "$program" "$@" \
        -H 'Host: quotes.example' \
        -H 'User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0' \
        -H 'Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8' \
        -H 'Accept-Language: en-US,en;q=0.5' \
        -H 'Accept-Encoding: gzip, deflate, br, zstd' \
        -H 'Referer: https://quotes.example/' \
        -H 'Sec-Fetch-Mode: navigate' \
        -H 'Connection: keep-alive'
}

fail() { echo "$*" >&2; exit 1; }

# look WHO PORT: waits until it answers, asks twice, and compares what it said with what everybody has to say.
look() {
    tries=0
    until ask curl -sf -D "$scratch/head" -o "$scratch/body" "http://127.0.0.1:$2/quotes/42"; do
        tries=$((tries + 1))
        [ $tries -lt 100 ] || { cat "$scratch/$1.err" >&2; fail "$1: no answer"; }
        sleep 0.1
    done
    # Some store behind the response's back.
    sleep 0.2
    ask curl -sf -D "$scratch/head" -o "$scratch/body" "http://127.0.0.1:$2/quotes/42" || fail "$1: no second answer"
    head -c 1024 /dev/zero | tr '\0' q | cmp -s - "$scratch/body" || fail "$1: another body"
    for field in 'content-type: application/json' 'etag: "33a64df5"' 'last-modified: Sat, 21 Nov 2026 07:28:00 GMT' \
        'x-content-type-options: nosniff' 'content-language: en' 'date: '; do
        grep -qi "^$field" "$scratch/head" || fail "$1: no $field"
    done
}

# end WHO ID: ends a server; what ours printed is how often its handler ran.
end() {
    kill "$2"
    wait "$2" || true
    runs=$(cat "$scratch/$1.out")
}

# What Varnish writes into its log of a request, which nobody reads here.
unlogged=-VCL_call,-VCL_return,-ReqStart,-ReqMethod,-ReqURL,-ReqProtocol,-ReqHeader,-ReqUnset,-ReqAcct,-RespProtocol
unlogged=$unlogged,-RespStatus,-RespReason,-RespHeader,-RespUnset,-Hit,-Timestamp,-Begin,-End,-Link,-SessOpen,-SessClose

# Each is started, looked at and asked for a while, one after another, round by round.
contenders="constant ideal cacheback bare axum-response-cache tower-http-cache hitbox-bincode hitbox-json
    http-cache-tower-server nginx nginx-sendfile varnish varnish-default"
version="nginx $(nginx -v 2>&1 | sed 's,.*/,,'), \`proxy_cache\`"
echo "nginx|label|$version"
echo "nginx-sendfile|label|$version, \`sendfile on\`"
version="Varnish $(varnishd -V 2>&1 | sed -n 's/varnishd (varnish-\([0-9.]*\).*/\1/p'), malloc"
echo "varnish|label|$version"
echo "varnish-default|label|$version, lingering and logging as it comes"

round=0
while [ $round -lt "$rounds" ]; do
    round=$((round + 1))
    for who in $contenders; do
        next_port
        here=$port
        origin=
        case $who in
        nginx* | varnish*)
            next_port
            start origin "$programs/serve" bare "$port"
            origin=$started
            dir=$scratch/$who.$round
            mkdir "$dir"
            ;;
        esac
        case $who in
        nginx*)
            sendfile=off
            [ "$who" = nginx ] || sendfile=on
            sed "s/ORIGIN/$port/; s/PORT/$here/; s/SENDFILE/$sendfile/" nginx.conf >"$dir/nginx.conf"
            start "$who" nginx -p "$dir" -c nginx.conf
            ;;
        varnish*)
            sed "s/ORIGIN/$port/" default.vcl >"$dir/default.vcl"
            set -- -p timeout_linger=1 -p "vsl_mask=$unlogged"
            [ "$who" = varnish ] || set --
            start "$who" varnishd -F -n "$dir/work" -f "$dir/default.vcl" -a "127.0.0.1:$here" -s malloc,64m \
                -p thread_pools=1 -p thread_pool_min=100 -p timeout_idle=3600 "$@"
            ;;
        *) start "$who" "$programs/serve" "$who" "$here" ;;
        esac
        server=$started
        look "$who" "$here"
        ask taskset -c 1 wrk -t1 -c64 "-d${seconds}s" "http://127.0.0.1:$here/quotes/42" >"$scratch/wrk"
        ! grep -E 'Socket errors|Non-2xx' "$scratch/wrk" >&2 || fail "$who: not all was answered"
        echo "$who|sockets|$(sed -n 's,^Requests/sec: *,,p' "$scratch/wrk")"
        end "$who" "$server"
        [ -z "$origin" ] || end origin "$origin"
        servers=
        case $who in
        bare) ;;
        constant | ideal) [ "$runs" = 0 ] || fail "$who: its handler ran $runs times" ;;
        *) [ "$runs" = 1 ] || fail "$who: its handler ran $runs times" ;;
        esac
    done
done

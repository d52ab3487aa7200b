# Varnish as a cache in front of the bare handler: in memory (malloc), one pool of threads, as there is one core, with a
# thread for each connection that waits there for the next request (`timeout_linger`), nothing of a hit logged
# (`vsl_mask`), its directory on a tmpfs; what it stores lives for an hour, all else is as it comes.
vcl 4.1;

backend handler {
    .host = "127.0.0.1";
    .port = "ORIGIN";
}

sub vcl_backend_response {
    set beresp.ttl = 1h;
}

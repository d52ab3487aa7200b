vcl 4.1;

# Varnish as a cache in front of the bare handler: what it stores lives for an hour, all else is as it comes.
backend handler {
    .host = "127.0.0.1";
    .port = "ORIGIN";
}

sub vcl_backend_response {
    set beresp.ttl = 1h;
}

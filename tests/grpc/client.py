"""Calls a server of quotes (examples/tonic/quotes.proto) as Python's grpcio does, and checks what it is told.

Started by tests/grpc/python.rs with the server's address and the directory of the .proto. Its code is generated as it runs.
"""

import sys

import grpc

ADDRESS, PROTO = sys.argv[1:]
sys.path.insert(0, PROTO)
quotes, services = grpc.protos_and_services("quotes.proto")


def get(stub, share, **options):
    """The price, and what the cache says of it in the initial metadata."""
    quote, call = stub.Get.with_call(quotes.Wanted(share=share), **options)
    metadata = dict(call.initial_metadata())
    assert call.code() == grpc.StatusCode.OK, call.code()
    return quote.cents, metadata["cache-status"].removeprefix("cacheback; ")


def fails(call):
    """The status of a call that is to fail."""
    try:
        call()
    except grpc.RpcError as error:
        return error
    raise AssertionError("it did not fail")


def check(told, expected):
    assert told == expected, f"{told!r} is not {expected!r}"


def unary(stub):
    stored = "fwd=uri-miss; fwd-status=200; stored"
    check(get(stub, "ACME"), (1, stored))
    check(get(stub, "ACME"), (1, "hit; ttl=60"))
    # A deadline is no part of the key.
    check(get(stub, "ACME", timeout=30), (1, "hit; ttl=60"))
    check(get(stub, "OTHER"), (2, stored))
    # Keyed metadata is, and a credential goes past the cache.
    check(get(stub, "ACME", metadata=[("x-tenant", "a")]), (3, stored))
    check(get(stub, "ACME", metadata=[("x-tenant", "a"), ("x-mine", "1")]), (3, "hit; ttl=60"))
    past = "fwd=bypass; fwd-status=200; detail=credential"
    check(get(stub, "ACME", metadata=[("authorization", "mine")]), (4, past))
    check(get(stub, "ACME", metadata=[("authorization", "mine")]), (5, past))
    # A long message, and a long answer: the service repeats it.
    for expected in [(6, stored), (6, "hit; ttl=60")]:
        check(get(stub, "x" * 50_000), expected)


def compressed(stub):
    for expected in [(7, "fwd=uri-miss; fwd-status=200; stored"), (7, "hit; ttl=60")]:
        check(get(stub, "y" * 5_000, compression=grpc.Compression.Gzip), expected)
    check(get(stub, "y" * 5_000)[0], 8)


def errors(stub):
    for _ in range(2):
        error = fails(lambda: stub.Get(quotes.Wanted(share="none")))
        check((error.code(), error.details()), (grpc.StatusCode.NOT_FOUND, "no such share"))
    error = fails(lambda: stub.Get(quotes.Wanted(share="hang"), timeout=0.2))
    check(error.code(), grpc.StatusCode.DEADLINE_EXCEEDED)
    check(get(stub, "ACME"), (1, "hit; ttl=60"))


def streaming(stub):
    check([quote.cents for quote in stub.Watch(quotes.Wanted(share="ACME"))], [1, 2, 3])
    check(stub.Tell(quotes.Quote(share="ACME", cents=cents) for cents in range(4)).quotes, 4)
    check([quote.share for quote in stub.Each(quotes.Wanted(share=share) for share in "abc")], ["a", "b", "c"])
    # It streams, and is listed: its one answer is that of a unary call.
    check([quote.cents for quote in stub.Watch(quotes.Wanted(share="once"))], [9])
    check([quote.cents for quote in stub.Watch(quotes.Wanted(share="once"))], [9])


with grpc.insecure_channel(ADDRESS) as channel:
    stub = services.QuotesStub(channel)
    unary(stub)
    compressed(stub)
    errors(stub)
    streaming(stub)
print("all is as it should be")

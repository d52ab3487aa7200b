//! What is in the key of a call, and what its service sees.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use cacheback::{Cache, CachebackLayer, Grpc, grpc};
use http_body_util::BodyExt;
use tonic::{
    Request, Response, Status,
    codec::CompressionEncoding,
    metadata::{Binary, MetadataKey, MetadataValue},
    service::{InterceptorLayer, LayerExt as _, interceptor::InterceptedService},
};

use tower::{Layer, ServiceExt};

use crate::{
    stand::{GET, Origin, Stand, a_minute, connect, minute, quote, wanted},
    support::net::infallible,
};

/// What each of these calls is told, one after the other: of which run its answer is, and whether that was a hit.
async fn told(layer: &CachebackLayer<Grpc>, calls: &[&[(&str, &str)]]) -> Vec<(u64, bool)> {
    let stand = Stand::new(layer, &Origin::counting()).await;
    let mut told = Vec::new();
    for metadata in calls {
        let reply = stand.ask("ACME", metadata).await.unwrap();
        told.push((reply.quote.cents, reply.said.starts_with("hit")));
    }
    told
}

#[tokio::test(start_paused = true)] // P66, P80
async fn metadata_that_is_not_keyed_is_neither_in_the_key_nor_seen() {
    let origin = Origin::counting();
    let stand = Stand::new(&minute().key_metadata("x-tenant"), &origin).await;
    let metadata = [
        ("x-tenant", "a"),
        ("accept-language", "de"),
        ("x-mine", "1"),
        ("traceparent", "00-1-2-03"),
        ("tracestate", "x=y"),
    ];
    stand.ask("ACME", &metadata).await.unwrap();
    assert_eq!(stand.ask("ACME", &[("x-tenant", "a"), ("x-mine", "2")]).await.unwrap().told(), (1, "hit; ttl=60"));
    let seen = origin.last();
    let mut names: Vec<_> = seen.metadata.keys().map(|name| name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["content-type", "te", "traceparent", "tracestate", "x-tenant"], "{seen:?}");
}

#[tokio::test(start_paused = true)] // P60, P80
async fn keyed_metadata_is_keyed_with_all_of_its_values_in_their_order() {
    let layer = minute().key_metadata("x-tenant");
    let calls: [&[(&str, &str)]; 8] = [
        &[],
        &[("x-tenant", "")],
        &[("x-tenant", "a")],
        &[("x-tenant", "a"), ("x-tenant", "b")],
        &[("x-tenant", "b"), ("x-tenant", "a")],
        &[("x-tenant", "a,b")],
        &[("x-tenant", "ab")],
        &[("x-tenant", "a"), ("x-tenant", "")],
    ];
    let told = told(&layer, &[calls, calls].concat()).await;
    for (at, run) in (1..=8).enumerate() {
        assert_eq!((told[at], told[at + 8]), ((run, false), (run, true)), "{:?}", calls[at]);
    }
}

#[tokio::test(start_paused = true)] // P80
async fn binary_metadata_can_be_keyed() {
    let origin = Origin::counting();
    let stand = Stand::new(&minute().key_metadata("tenant-bin"), &origin).await;
    let call = |tenant: &'static [u8]| {
        let mut request = wanted("ACME", &[]);
        let name = MetadataKey::<Binary>::from_static("tenant-bin");
        request.metadata_mut().insert_bin(name, MetadataValue::from_bytes(tenant));
        request
    };
    for (tenant, run) in [(&[0, 255][..], 1), (&[0, 254], 2), (&[0, 255], 1)] {
        assert_eq!(stand.begin(call(tenant)).await.unwrap().quote.cents, run);
    }
}

#[tokio::test(start_paused = true)] // P43, P80
async fn a_credential_goes_past_the_cache_unless_it_is_keyed() {
    for (name, detail) in [
        ("authorization", "credential"),
        ("x-api-key", "credential"),
        ("x-goog-iap-x", "credential"),
        ("cookie", "cookie"),
    ] {
        let origin = Origin::counting();
        let stand = Stand::new(&minute(), &origin).await;
        for run in 1..=2 {
            let reply = stand.ask("ACME", &[(name, "mine")]).await.unwrap();
            assert_eq!(reply.told(), (run, &*format!("fwd=bypass; fwd-status=200; detail={detail}")));
            assert_eq!(origin.last().field(name), "mine");
        }
        assert_eq!(stand.get("ACME").await.quote.cents, 3, "what one gets who said who he is is not stored");

        let (mine, other): (&[_], &[_]) = (&[(name, "mine")], &[(name, "other")]);
        let told = told(&minute().key_metadata(name), &[mine, mine, other, &[]]).await;
        assert_eq!(told, [(1, false), (1, true), (2, false), (3, false)], "{name}");
    }
    let (mine, none): (&[_], &[_]) = (&[("x-badge", "7")], &[]);
    let layer = minute().credential_metadata("x-badge");
    assert_eq!(told(&layer, &[mine, mine, none, none]).await, [(1, false), (2, false), (3, false), (3, true)]);
}

#[tokio::test(start_paused = true)] // P17, P43, P80
async fn a_function_vouches_for_credentials_and_keys_what_it_finds() {
    let layer = minute().key_by(|call| {
        let tenant = call.headers.get("authorization")?.to_str().ok()?.split_once('-')?.0;
        Some(tenant.as_bytes().to_vec())
    });
    let calls: [&[_]; 6] = [
        &[("authorization", "a-1")],
        &[("authorization", "a-2")],
        &[("authorization", "b-1")],
        &[("authorization", "none")],
        &[("authorization", "none")],
        &[("authorization", "b-2")],
    ];
    let told = told(&layer, &calls).await;
    assert_eq!(told, [(1, false), (1, true), (2, false), (3, false), (4, false), (2, true)]);
}

#[tokio::test(start_paused = true)] // P66, P80
async fn what_a_function_has_read_is_seen_only_where_its_field_is_keyed_as_well() {
    let layer = minute().key_by(|call| Some(call.headers.get("authorization")?.as_bytes().to_vec()));
    for (layer, sees) in [(layer.clone(), ""), (layer.key_metadata("authorization"), "ada")] {
        let origin = Origin::counting();
        let stand = Stand::new(&layer, &origin).await;
        for said in ["fwd=uri-miss; fwd-status=200; stored", "hit; ttl=60"] {
            assert_eq!(stand.ask("ACME", &[("authorization", "ada")]).await.unwrap().told(), (1, said));
        }
        assert_eq!(origin.last().field("authorization"), sees);
    }
}

/// Lets nobody pass but one.
#[allow(clippy::result_large_err, reason = "tonic's own")]
fn only_ada(request: Request<()>) -> Result<Request<()>, Status> {
    match request.metadata().get("authorization") {
        Some(who) if who == "ada" => Ok(request),
        _ => Err(Status::unauthenticated("who are you?")),
    }
}

#[tokio::test(start_paused = true)] // P43, P80
async fn an_interceptor_inside_the_layer_sees_each_call_of_an_authorised_caller_and_its_refusal_is_not_stored() {
    let (origin, layer) = (Origin::counting(), minute());
    let service = layer.clone().named_layer(InterceptedService::new(origin.server(), only_ada));
    let stand = Stand::of(layer.cache(), service).await;
    for run in 1..=2 {
        assert_eq!(stand.ask("ACME", &[("authorization", "ada")]).await.unwrap().quote.cents, run);
        stand.ask("ACME", &[("authorization", "eve")]).await.unwrap_err();
        let refused = stand.ask("ACME", &[]).await.unwrap_err();
        assert_eq!(refused.message(), "who are you?");
        assert_eq!(
            crate::stand::said(refused.metadata().as_ref()),
            "fwd=uri-miss; fwd-status=200; detail=authenticate"
        );
    }
    assert_eq!(stand.cache.stats().stored, 0);
}

#[tokio::test(start_paused = true)] // P43, P80
async fn an_interceptor_outside_the_layer_sees_every_call() {
    let (origin, layer) = (Origin::counting(), minute().key_metadata("authorization"));
    let service = InterceptorLayer::new(only_ada).named_layer(layer.clone().named_layer(origin.server()));
    let stand = Stand::of(layer.cache(), service).await;
    for _ in 0..2 {
        assert_eq!(stand.ask("ACME", &[("authorization", "ada")]).await.unwrap().quote.cents, 1);
        stand.ask("ACME", &[("authorization", "eve")]).await.unwrap_err();
    }
    assert_eq!(origin.runs(), 1);
}

#[tokio::test(start_paused = true)] // P80
async fn compressed_and_uncompressed_clients_get_what_they_can_read() {
    let origin = Origin::new(|seen| {
        let mut answer = quote(seen);
        answer.note = "all alike ".repeat(500);
        Ok(Response::new(answer))
    });
    let layer = minute();
    let server =
        origin.server().accept_compressed(CompressionEncoding::Gzip).send_compressed(CompressionEncoding::Gzip);
    let stand = Stand::around(&layer, server).await;
    let client = || connect(stand.address);
    let mut clients = [
        ("plain", client().await),
        ("reads", client().await.accept_compressed(CompressionEncoding::Gzip)),
        ("writes", client().await.send_compressed(CompressionEncoding::Gzip)),
        (
            "both",
            client().await.send_compressed(CompressionEncoding::Gzip).accept_compressed(CompressionEncoding::Gzip),
        ),
    ];
    for round in 0..2 {
        for (run, (name, client)) in (1..).zip(&mut clients) {
            let request = wanted(&"x".repeat(2_000), &[]);
            let answer = client.get(request).await.unwrap();
            let coded = answer.metadata().get("grpc-encoding").map(|coding| coding.to_str().unwrap().to_owned());
            assert_eq!(coded.is_some(), matches!(*name, "reads" | "both"), "{name}");
            let said = crate::stand::said(answer.metadata().as_ref());
            assert_eq!(said.starts_with("hit"), round == 1, "{name}: {said}");
            let quote = answer.into_inner();
            assert_eq!((quote.cents, quote.note.len(), quote.share.len()), (run, 5_000, 2_000), "{name}");
        }
    }
    let stored: usize =
        stand.cache.peek(cacheback::Scope::everything()).iter().map(|p| p.value().content().len()).sum();
    assert!(stored < 2 * 8_000 + 2 * 1_000, "two of four are compressed: {stored}");
}

#[tokio::test(start_paused = true)] // P63, P80
async fn nobody_floods_the_cache_by_the_codings_that_he_says_he_reads() {
    let origin = Origin::counting();
    let stand = Stand::new(&minute(), &origin).await;
    for n in 0..200 {
        let codings = format!("x{n},identity{},a-{n}", if n % 2 == 0 { ",gzip" } else { "" });
        stand.ask("ACME", &[("grpc-accept-encoding", &codings)]).await.unwrap();
    }
    assert_eq!(origin.runs(), 2);
    assert!(origin.seen().iter().all(|seen| !seen.field("grpc-accept-encoding").contains('x')));
}

#[tokio::test(start_paused = true)] // P93, P80
async fn layers_with_other_rules_and_namespaces_of_one_cache_share_no_entry() {
    let (cache, origin) = (Cache::new(), Origin::counting());
    let layer = || cache.grpc().method(GET, a_minute());
    let layers = [layer(), layer().namespace("acme"), layer().key_metadata("x-tenant"), layer()];
    for (layer, run) in layers.iter().zip([1, 2, 3, 1]) {
        let call = cacheback::grpc::call("http://a.example/quotes.Quotes/Get", b"\x0a\x01A").unwrap();
        let answer = tower::ServiceExt::oneshot(tower::Layer::layer(layer, origin.server()), call).await.unwrap();
        let body = http_body_util::BodyExt::collect(answer.into_body()).await.unwrap().to_bytes();
        let quote: crate::quotes::Quote = prost::Message::decode(&body[5..]).unwrap();
        assert_eq!(quote.cents, run);
    }
    assert_eq!(cache.purge(cacheback::Scope::namespace("acme")).await.unwrap().entries, 1);
    // One value, of two fields.
    for name in ["x-a", "x-b"] {
        let told = called(&layer().key_metadata(name), &[call(GET, &[(name, "1")])]).await;
        assert_eq!(told[0].1, "fwd=uri-miss; fwd-status=200; stored", "{name}");
    }
}

/// What a service is called with, and how the layer answers.
async fn called(
    layer: &CachebackLayer<Grpc>,
    calls: &[http::Request<grpc::Whole>],
) -> Vec<(http::Request<Bytes>, String)> {
    let seen = Arc::new(Mutex::new(None));
    let service = layer.layer(tower::service_fn({
        let seen = Arc::clone(&seen);
        move |call: http::Request<grpc::RequestBody<grpc::Whole>>| {
            let seen = Arc::clone(&seen);
            async move {
                let (head, body) = call.into_parts();
                let content = body.collect().await?.to_bytes();
                *seen.lock().unwrap() = Some(http::Request::from_parts(head, content));
                Ok::<_, std::convert::Infallible>(grpc::answer(b"fine"))
            }
        }
    }));
    let mut all = Vec::new();
    for call in calls {
        let answer = infallible(service.clone().oneshot(call.clone()).await);
        let said = crate::stand::said(answer.headers());
        // A hit calls nobody: what was called before is seen once more.
        let call = seen.lock().unwrap().clone().expect("somebody was called");
        all.push((call, said));
    }
    all
}

fn call(uri: &str, metadata: &[(&'static str, &'static str)]) -> http::Request<grpc::Whole> {
    let mut call = grpc::call(uri, b"m").unwrap();
    for (name, value) in metadata {
        let place = call.headers_mut();
        if *name == "content-type" {
            place.remove(*name);
        }
        place.append(*name, value.parse().unwrap());
    }
    call
}

#[tokio::test(start_paused = true)] // P62, P66, P80
async fn one_call_has_one_key_and_one_view_however_its_authority_is_spelt() {
    let calls =
        ["http://A.example:80/quotes.Quotes/Get", "http://a.example/quotes.Quotes/Get"].map(|uri| call(uri, &[]));
    let all = called(&minute(), &calls).await;
    assert_eq!(all[0].0.uri(), "http://a.example/quotes.Quotes/Get");
    assert_eq!(all[1].1, "hit; ttl=60");
    let others = [call("http://b.example/quotes.Quotes/Get", &[]), call(GET, &[("host", "a.example")])];
    let all = called(&minute(), &[&calls[..], &others].concat()).await;
    assert_eq!((all[2].1.starts_with("fwd"), &*all[3].1), (true, "hit; ttl=60"));
}

#[tokio::test(start_paused = true)] // P66, P80
async fn what_is_said_of_a_coding_that_the_message_has_not_counts_for_nothing() {
    let calls = [&[("grpc-encoding", "gzip")][..], &[("grpc-encoding", "zstd")], &[]].map(|coding| call(GET, coding));
    let all = called(&minute(), &calls).await;
    assert!(!all[0].0.headers().contains_key("grpc-encoding"));
    assert_eq!((&*all[1].1, &*all[2].1), ("hit; ttl=60", "hit; ttl=60"));
}

#[tokio::test(start_paused = true)] // P60, P80
async fn a_compressed_message_is_keyed_with_its_coding_and_passes_where_that_is_not_one() {
    let compressed = |codings: &[&'static str]| {
        let metadata: Vec<_> = codings.iter().map(|coding| ("grpc-encoding", *coding)).collect();
        call(GET, &metadata).map(|_| grpc::Whole::of(&b"\x01\0\0\0\x01m"[..]))
    };
    let calls = [&["gzip"][..], &["zstd"], &["gzip"], &[], &["gzip", "gzip"]].map(compressed);
    let all = called(&minute(), &[&calls[..], &[call(GET, &[])]].concat()).await;
    let said: Vec<_> = all.iter().map(|(_, said)| said.as_str()).collect();
    let (stored, past) = ("fwd=uri-miss; fwd-status=200; stored", "fwd=bypass; fwd-status=200; detail=excluded");
    assert_eq!(said, [stored, stored, "hit; ttl=60", past, past, stored]);
    assert_eq!(
        (all[1].0.headers()["grpc-encoding"].as_bytes(), &all[1].0.body()[..]),
        (&b"zstd"[..], &b"\x01\0\0\0\x01m"[..])
    );
}

#[tokio::test(start_paused = true)] // P60, P80
async fn a_content_type_is_part_of_the_key_and_a_uri_with_a_query_is_no_method() {
    let kinds = ["application/grpc", "application/grpc+json", "application/grpc"];
    let mut calls = kinds.map(|kind| call(GET, &[("content-type", kind)])).to_vec();
    let mut odd = call(GET, &[]);
    *odd.uri_mut() = "/quotes.Quotes/Get?x".parse().unwrap();
    calls.push(odd);
    let all = called(&minute(), &calls).await;
    assert_eq!(all[1].0.headers()["content-type"], "application/grpc+json");
    let said: Vec<_> = all.iter().map(|(_, said)| said.as_str()).collect();
    let (stored, past) = ("fwd=uri-miss; fwd-status=200; stored", "fwd=bypass; fwd-status=200; detail=excluded");
    assert_eq!(said, [stored, stored, "hit; ttl=60", past]);
}

#[tokio::test(start_paused = true)] // P60, P66, P80
async fn a_second_content_type_is_seen_and_therefore_part_of_the_key() {
    let mut two = call(GET, &[]);
    two.headers_mut().append("content-type", "application/grpc+json".parse().unwrap());
    let all = called(&minute(), &[call(GET, &[]), two.clone(), two]).await;
    let seen: Vec<_> = all.iter().map(|(seen, _)| seen.headers().get_all("content-type").iter().count()).collect();
    let said: Vec<_> = all.iter().map(|(_, said)| said.starts_with("hit")).collect();
    assert_eq!((&seen[..], &said[..]), (&[1, 2, 2][..], &[false, false, true][..]));
}

#[cfg(feature = "axum")]
#[tokio::test(start_paused = true)] // P60, P66, P80
async fn an_authority_that_a_middleware_has_put_in_place_of_the_received_one_is_part_of_the_key() {
    let sent_on = |to: &str| {
        let (mut call, received) = (call(&format!("http://{to}{GET}"), &[]), "http://a.example/quotes.Quotes/Get");
        call.extensions_mut().insert(axum::extract::OriginalUri(received.parse().unwrap()));
        call
    };
    let calls = ["one.example", "two.example", "one.example", "a.example"].map(sent_on);
    let all = called(&minute(), &calls).await;
    let said: Vec<_> = all.iter().map(|(_, said)| said.starts_with("hit")).collect();
    assert_eq!(said, [false, false, true, false]);
    assert_eq!(all[1].0.uri(), "http://two.example/quotes.Quotes/Get");
}

#[tokio::test(start_paused = true)] // P48, P80
async fn a_call_that_wants_no_trace_of_itself_leaves_none_and_may_be_answered_by_what_is_stored() {
    let (discreet, plain) = (call(GET, &[("cache-control", "no-store")]), call(GET, &[]));
    let all = called(&minute(), &[discreet.clone(), plain, discreet]).await;
    let said: Vec<_> = all.iter().map(|(_, said)| said.as_str()).collect();
    let (past, stored) =
        ("fwd=uri-miss; fwd-status=200; detail=request-no-store", "fwd=uri-miss; fwd-status=200; stored");
    assert_eq!(said, [past, stored, "hit; ttl=60"]);
}

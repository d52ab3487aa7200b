//! What is in the key of a call, and what its service sees.

use cacheback::{Cache, CachebackLayer, Grpc};
use tonic::{
    Request, Response, Status,
    codec::CompressionEncoding,
    metadata::{Binary, MetadataKey, MetadataValue},
    service::{InterceptorLayer, LayerExt as _, interceptor::InterceptedService},
};

use crate::stand::{GET, Origin, Stand, a_minute, connect, minute, quote, wanted};

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
}

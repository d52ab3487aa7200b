//! Expiry and purge: by method and message, by method, by service, by tag; and the race against a run.

use std::{convert::Infallible, sync::Arc};

use cacheback::{Cache, Outcome, Scope, grpc};
use http_body_util::BodyExt;
use prost::Message;
use tokio::sync::Notify;
use tonic::{Response, codec::CompressionEncoding};
use tower::{Layer, ServiceBuilder, ServiceExt, service_fn, util::BoxCloneService};

use crate::{
    clock::in_time,
    quotes::Wanted,
    stand::{GET, Origin, Stand, a_minute, connect, minute, quiet, quote, wanted},
};

fn message(share: &str) -> Scope {
    Scope::message(GET, Wanted { share: share.into() }.encode_to_vec()).unwrap()
}

#[tokio::test(start_paused = true)] // P30, P34, P80
async fn one_call_is_expired_or_purged_by_its_method_and_message() {
    let origin = Origin::counting();
    let stand = Stand::new(&minute().key_metadata("x-tenant"), &origin).await;
    let tenants: [&[_]; 2] = [&[], &[("x-tenant", "a")]];
    for tenant in tenants {
        for share in ["ACME", "OTHER"] {
            stand.ask(share, tenant).await.unwrap();
        }
    }
    assert_eq!(stand.cache.expire(message("ACME")).await.unwrap().entries, 2, "whatever its metadata");
    assert_eq!(stand.cache.expire(message("NONE")).await.unwrap().entries, 0);
    assert_eq!(stand.get("OTHER").await.told(), (2, "hit; ttl=60"));
    // Stale, and refreshed behind its reader.
    assert_eq!(stand.get("ACME").await.told(), (1, "hit; ttl=-1"));
    assert_eq!(stand.get("ACME").await.told(), (5, "hit; ttl=60"));
    assert_eq!(stand.cache.purge(message("ACME")).await.unwrap().entries, 2);
    assert_eq!(stand.get("ACME").await.quote.cents, 6);
    assert_eq!(stand.get("OTHER").await.told(), (2, "hit; ttl=60"));
}

#[tokio::test(start_paused = true)] // P34, P60, P80
async fn messages_of_every_length_are_told_apart_and_reached() {
    let stand = Stand::new(&minute(), &Origin::counting()).await;
    // Around the lengths from which on a key writes them in another way.
    let shares: Vec<_> = [240, 252, 253, 254, 255, 256, 300, 65_000].map(|length| "A".repeat(length - 3)).into();
    for _ in 0..2 {
        for share in &shares {
            stand.get(share).await;
        }
    }
    for (run, share) in (1..).zip(&shares) {
        assert_eq!(stand.get(share).await.told(), (run, "hit; ttl=60"));
        assert_eq!(stand.cache.purge(message(share)).await.unwrap().entries, 1);
        assert_eq!(stand.cache.stats().keys, shares.len() - 1);
        assert_eq!(stand.get(share).await.quote.cents, shares.len() as u64 + run);
    }
}

#[tokio::test(start_paused = true)] // P34, P80
async fn a_method_and_a_service_are_reached_by_their_paths_and_what_is_tagged_by_its_tag() {
    let origin = Origin::new(|seen| {
        let mut answer = Response::new(quote(seen));
        answer.extensions_mut().insert(cacheback::Tags::new([seen.share.clone()]));
        Ok(answer)
    });
    let stand = Stand::new(&minute(), &origin).await;
    let scopes = [
        (Scope::path(GET).unwrap(), 2),
        (Scope::path_prefix("/quotes.Quotes").unwrap(), 2),
        (Scope::path_prefix("/quotes.Quote").unwrap(), 0),
        (Scope::path("/quotes.Quotes/Watch").unwrap(), 0),
        (Scope::path(&format!("http://{}{GET}", stand.address)).unwrap(), 2),
        (Scope::path(&format!("http://elsewhere.example{GET}")).unwrap(), 0),
        (Scope::message(&format!("http://{}{GET}", stand.address), b"\x0a\x01A").unwrap(), 1),
        (Scope::message(&format!("http://elsewhere.example{GET}"), b"\x0a\x01A").unwrap(), 0),
        (Scope::uri(GET).unwrap(), 0),
        (Scope::tag("A"), 1),
        (Scope::everything(), 2),
    ];
    for (scope, reached) in scopes {
        stand.get("A").await;
        stand.get("B").await;
        assert_eq!(stand.cache.peek(&scope).len(), reached, "{scope:?}");
        assert_eq!(stand.cache.purge(&scope).await.unwrap().entries, reached, "{scope:?}");
    }
}

#[tokio::test(start_paused = true)] // P34, P80
async fn what_a_client_compressed_is_reached_with_its_method_and_by_every_message_of_it() {
    let origin = Origin::counting();
    let layer = minute();
    let stand = Stand::around(&layer, origin.server().accept_compressed(CompressionEncoding::Gzip)).await;
    let mut zips = connect(stand.address).await.send_compressed(CompressionEncoding::Gzip);
    for (share, run) in [("ACME", 1), ("OTHER", 2), ("ACME", 1)] {
        assert_eq!(in_time(zips.get(wanted(share, &[]))).await.unwrap().into_inner().cents, run);
    }
    assert_eq!(stand.get("ACME").await.quote.cents, 3);
    assert_eq!(stand.cache.peek(message("OTHER")).len(), 2);
    assert_eq!(stand.cache.purge(message("ACME")).await.unwrap().entries, 3);
    assert_eq!(in_time(zips.get(wanted("ACME", &[]))).await.unwrap().into_inner().cents, 4);
}

#[tokio::test(start_paused = true)] // P30, P31, P80
async fn an_invalidation_by_method_and_message_during_a_run_voids_it_and_one_of_another_message_does_not() {
    for (scope, voids) in [
        (message("ACME"), true),
        (message("OTHER"), false),
        (Scope::path(GET).unwrap(), true),
        (Scope::path_prefix("/quotes.Quotes").unwrap(), true),
        (Scope::uri(GET).unwrap(), false),
    ] {
        let origin = Origin::counting();
        let stand = Stand::new(&minute(), &origin).await;
        origin.only_the_first(0);
        let waits = stand.spawn(wanted("ACME", &[]));
        origin.begun(1).await;
        stand.cache.purge(&scope).await.unwrap();
        let later = stand.spawn(wanted("ACME", &[]));
        quiet().await;
        assert_eq!(origin.runs(), if voids { 2 } else { 1 }, "{scope:?}");
        origin.only_the_first(1);
        assert_eq!(in_time(waits).await.unwrap().unwrap().quote.cents, 1);
        origin.release();
        let expected = if voids { 2 } else { 1 };
        assert_eq!(in_time(later).await.unwrap().unwrap().quote.cents, expected, "{scope:?}");
        assert_eq!(stand.get("ACME").await.told(), (expected, "hit; ttl=60"), "{scope:?}");
    }
}

#[tokio::test(start_paused = true)] // P31, P34
async fn a_long_message_is_reached_as_a_short_one_is() {
    let (cache, origin) = (Cache::new(), Origin::counting());
    let service = cache.grpc().method(GET, a_minute()).layer(origin.server());
    let shares = ["x".repeat(40_000), "x".repeat(40_001)];
    for share in &shares {
        let call = grpc::call(GET, Wanted { share: share.clone() }.encode_to_vec()).unwrap();
        drop(service.clone().oneshot(call).await.unwrap());
    }
    cache.settled().await;
    assert_eq!(cache.purge(message(&shares[0])).await.unwrap().entries, 1);
    assert_eq!(cache.purge(message(&shares[1])).await.unwrap().entries, 1);
}

#[tokio::test(start_paused = true)] // P36, P80
async fn a_call_that_passes_an_http_layer_of_the_same_cache_purges_nothing_of_its_method() {
    let (cache, origin) = (Cache::new(), Origin::counting());
    let pages = cache.layer(a_minute());
    let calls = cache.grpc().method(GET, a_minute());
    let outside = ServiceBuilder::new()
        .map_response(|response: http::Response<_>| response.map(tonic::body::Body::new))
        .layer(pages.clone())
        .layer(calls.clone())
        .service(origin.server());
    let inside = ServiceBuilder::new()
        .map_response(|response: http::Response<_>| response.map(tonic::body::Body::new))
        .layer(calls)
        .layer(pages)
        .service(origin.server());
    for service in [BoxCloneService::new(outside), BoxCloneService::new(inside)] {
        for _ in 0..2 {
            let call = grpc::call("http://a.example/quotes.Quotes/Get", b"\x0a\x01A").unwrap();
            drop(service.clone().oneshot(call).await.unwrap());
            cache.settled().await;
        }
    }
    assert_eq!((origin.runs(), cache.peek(Scope::everything()).len()), (1, 1));
}

#[tokio::test(start_paused = true)] // P31, P65, P80
async fn calls_with_very_long_messages_void_no_runs_of_others() {
    for (cap, lengths) in [(64 << 10, 65_000..65_005), (1 << 20, 400_000..400_001)] {
        let layer = minute().message_cap(cap);
        let (goes_on, waits) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let service = layer.layer(service_fn({
            let (goes_on, waits) = (Arc::clone(&goes_on), Arc::clone(&waits));
            move |call: http::Request<grpc::RequestBody<grpc::Whole>>| {
                let (goes_on, waits) = (Arc::clone(&goes_on), Arc::clone(&waits));
                async move {
                    let mut answer = grpc::answer(b"fine");
                    if call.into_body().collect().await?.to_bytes().len() > 100 {
                        answer.headers_mut().insert("cache-control", http::HeaderValue::from_static("no-store"));
                    } else {
                        waits.notify_one();
                        goes_on.notified().await;
                    }
                    Ok::<_, Infallible>(answer)
                }
            }
        }));
        let slow = tokio::spawn(service.clone().oneshot(grpc::call(GET, b"slow").unwrap()));
        in_time(waits.notified()).await;
        for length in lengths {
            drop(service.clone().oneshot(grpc::call(GET, vec![b'x'; length]).unwrap()).await.unwrap());
        }
        goes_on.notify_one();
        let outcome = *in_time(slow).await.unwrap().unwrap().extensions().get::<Outcome>().unwrap();
        assert!(outcome.is_stored(), "{cap}: {outcome}");
    }
}

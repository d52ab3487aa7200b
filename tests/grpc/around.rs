//! The layer among others: a service's own, a server's, in a router beside HTTP, one in another.

use cacheback::{Cache, CachebackLayer, Freshness, Outcome, Tags, grpc};
use prost::Message;
use tonic::{Response, service::LayerExt as _};
use tower::{Layer, ServiceExt};

use crate::{
    clock::in_time,
    quotes::{Wanted, quotes_client::QuotesClient, quotes_server::QuotesServer},
    stand::{EACH, GET, Origin, Stand, WATCH, a_minute, minute, pass, quote, secs, wanted},
    support::{
        http::saying,
        net::{infallible, quiet, serve},
    },
};

#[tokio::test(start_paused = true)] // P90
async fn one_service_of_a_server_has_a_layer_and_keeps_its_name() {
    let (origin, layer) = (Origin::counting(), minute());
    let stand = Stand::of(layer.cache(), layer.clone().named_layer(origin.server())).await;
    assert_eq!(stand.get("ACME").await.quote.cents, 1);
    assert_eq!(stand.get("ACME").await.told(), (1, "hit; ttl=60"));
}

#[tokio::test(start_paused = true)] // P80, P90
async fn http_and_grpc_layers_of_one_cache_stand_around_one_router() {
    let (cache, origin) = (Cache::new(), Origin::counting());
    let pages = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0));
    let page = move || {
        let pages = std::sync::Arc::clone(&pages);
        async move {
            let page = pages.fetch_add(1, std::sync::atomic::Ordering::Relaxed).to_string();
            saying(Tags::new(["prices"]), page)
        }
    };
    let app = axum::Router::new()
        .route("/page", axum::routing::get(page.clone()))
        // The page of a method's path is not the method.
        .route(GET, axum::routing::get(page).post_service(origin.server()))
        .layer(cache.grpc().method(GET, a_minute()))
        .layer(cache.layer(a_minute()));
    let address = serve(app.clone()).await;
    let still = crate::clock::Still::begin();
    let mut client = crate::stand::connect(address).await;
    let mut shares = Vec::new();
    for _ in 0..2 {
        let answer = in_time(client.get(wanted("ACME", &[]))).await.unwrap();
        shares.push((answer.get_ref().cents, answer.metadata().get_all("cache-status").iter().count()));
        in_time(cache.settled()).await;
    }
    assert_eq!(shares, [(1, 2), (1, 2)], "both layers say what they did");
    let page = async |path: &str| {
        let request = http::Request::get(format!("http://{address}{path}")).body(axum::body::Body::empty()).unwrap();
        let answer = infallible(app.clone().oneshot(request).await);
        let outcome = *answer.extensions().get::<Outcome>().unwrap();
        (axum::body::to_bytes(answer.into_body(), 99).await.unwrap(), outcome.to_string())
    };
    for (path, text) in [("/page", "0"), (GET, "1"), ("/page", "0"), (GET, "1")] {
        assert_eq!(page(path).await.0, text);
    }
    assert_eq!(cache.expire_tag("prices").await.unwrap().entries, 2);
    assert_eq!(cache.purge_path(GET).await.unwrap().entries, 2, "the page and the call");
    assert_eq!(cache.purge_path("/page").await.unwrap().entries, 1);
    drop(still);
}

#[tokio::test(start_paused = true)] // P91
async fn two_layers_of_one_cache_around_one_another_do_not_wait_for_one_another() {
    let (cache, origin) = (Cache::new(), Origin::counting());
    // The outer one is the server's, and gives a minute; the method's own is what it stores.
    let outer = cache.grpc().method(GET, a_minute());
    for (inner, said) in [
        (cache.grpc().method(GET, Freshness::exact(secs(7))), "hit; ttl=7"),
        (cache.grpc().method(WATCH, secs(7)), "hit; ttl=60"),
        // It would tell apart what the outer one does not.
        (cache.grpc().method(GET, secs(7)).key_metadata("x-tenant"), "fwd=uri-miss; fwd-status=200; detail=handler"),
    ] {
        let stand = Stand::of(&cache, outer.clone().named_layer(inner.named_layer(origin.server()))).await;
        stand.get("ACME").await;
        assert_eq!(stand.get("ACME").await.said, said);
        cache.purge_path(GET).await.unwrap();
    }
}

#[tokio::test(start_paused = true)] // P91
async fn of_two_caches_the_outer_one_takes_nothing_for_newer_than_the_inner_one_has_it() {
    let (origin, outer, inner) = (Origin::counting(), minute(), CachebackLayer::grpc().method(GET, secs(30)));
    let stand = Stand::of(outer.cache(), outer.clone().named_layer(inner.clone().named_layer(origin.server()))).await;
    stand.get("ACME").await;
    pass(20).await;
    outer.cache().purge_path(GET).await.unwrap();
    stand.get("ACME").await;
    // What the inner one said of itself when it was asked stands before what the outer one says.
    assert_eq!(stand.get("ACME").await.said, "hit; ttl=10, cacheback; hit; ttl=40");
    // Stale there is stale here.
    pass(15).await;
    outer.cache().purge_path(GET).await.unwrap();
    origin.only_the_first(1);
    stand.begin(wanted("ACME", &[])).await.unwrap();
    let reply = stand.begin(wanted("ACME", &[])).await.unwrap();
    assert_eq!(reply.said, "hit; ttl=-5, cacheback; hit; ttl=-5");
    origin.release();
}

#[tokio::test(start_paused = true)] // P91
async fn what_a_service_says_beside_its_answer_holds_in_each_of_two_caches() {
    let origin = Origin::new(|seen| {
        let mut answer = Response::new(quote(seen));
        answer.extensions_mut().insert(Tags::new(["prices"]));
        answer.extensions_mut().insert(Freshness::exact(secs(9)));
        Ok(answer)
    });
    let (outer, inner) = (minute(), minute());
    let stand = Stand::of(outer.cache(), outer.clone().named_layer(inner.clone().named_layer(origin.server()))).await;
    stand.get("ACME").await;
    outer.cache().purge_path(GET).await.unwrap();
    stand.get("ACME").await;
    assert_eq!(stand.get("ACME").await.told(), (1, "hit; ttl=9, cacheback; hit; ttl=9"));
    assert_eq!(outer.cache().purge_tag("prices").await.unwrap().entries, 1);
    assert_eq!(inner.cache().purge_tag("prices").await.unwrap().entries, 1);
}

#[tokio::test(start_paused = true)] // P90
async fn it_stands_among_the_middleware_of_tower_http() {
    use tower_http::{catch_panic::CatchPanicLayer, timeout::TimeoutLayer, trace::TraceLayer};

    let origin = Origin::counting();
    let layer = minute();
    let service = tower::ServiceBuilder::new()
        .layer(TraceLayer::new_for_grpc())
        .layer(TimeoutLayer::with_status_code(http::StatusCode::REQUEST_TIMEOUT, secs(5)))
        .layer(layer.clone())
        .layer(TraceLayer::new_for_grpc())
        .layer(CatchPanicLayer::new())
        .service(origin.server());
    for _ in 0..2 {
        let call = grpc::call(GET, Wanted { share: "ACME".into() }.encode_to_vec()).unwrap();
        let answer = infallible(service.clone().oneshot(call).await);
        assert!(http_body_util::BodyExt::collect(answer.into_body()).await.unwrap().trailers().is_some());
    }
    quiet().await;
    assert_eq!(origin.runs(), 1);
}

#[tokio::test(start_paused = true)] // P80
async fn what_is_no_call_of_grpc_passes_and_nothing_is_said_of_it() {
    let service = minute().layer(tower::service_fn(|request: http::Request<grpc::RequestBody<String>>| async {
        let body = http_body_util::BodyExt::collect(request.into_body()).await?.to_bytes();
        Ok::<_, std::convert::Infallible>(http::Response::new(http_body_util::Full::new(body)))
    }));
    for (method, kind) in [
        ("GET", "application/grpc"),
        ("POST", "application/grpc-web"),
        ("POST", "application/grpc-web+proto"),
        ("POST", "application/json"),
        ("PUT", "application/grpc"),
    ] {
        let request = http::Request::builder().method(method).uri(GET).header("content-type", kind);
        let answer = infallible(service.clone().oneshot(request.body("content".to_owned()).unwrap()).await);
        assert!(!answer.headers().contains_key("cache-status"), "{method} {kind}");
        let body = http_body_util::BodyExt::collect(answer.into_body()).await.unwrap().to_bytes();
        assert_eq!(body, "content");
    }
}

#[test] // P90
fn layer_and_service_are_what_servers_ask_for() {
    fn is<T: Send + Sync + Clone + std::fmt::Debug + 'static>(_: &T) {}
    let layer = minute().method(EACH, secs(1));
    is(&layer);
    is(&layer.layer(QuotesClient::new(tower::service_fn(|_: http::Request<tonic::body::Body>| async {
        Ok::<http::Response<tonic::body::Body>, std::convert::Infallible>(http::Response::default())
    }))));
    let _: fn(Origin) -> QuotesServer<Origin> = QuotesServer::new;
}

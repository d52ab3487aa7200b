//! In tower: as a type, boxed, and steered to.

use std::{convert::Infallible, fmt::Debug};

use axum::{Router, body::Body, extract::Request, response::Response};
use cacheback::{Cache, Cacheback, CachebackLayer, Freshness, Http, Outcome, Typed};
use tower::{
    Layer, ServiceExt, service_fn,
    steer::Steer,
    util::{BoxCloneService, BoxCloneSyncService},
};

use crate::{
    stand::{Runs, Seen, minute, to},
    support::net::infallible,
};

#[test] // P90
fn the_layer_the_service_and_the_cache_go_wherever_a_value_can_go() {
    fn goes<T: Send + Sync + Clone + Debug + 'static>() {}
    type Users = Typed<u32, String>;
    goes::<CachebackLayer>();
    goes::<CachebackLayer<Users>>();
    goes::<Cacheback<axum::routing::Route, Http>>();
    goes::<Cacheback<BoxCloneSyncService<u32, String, Infallible>, Users>>();
    goes::<Cache>();
    goes::<Cache<String>>();
    goes::<Freshness>();
    goes::<Outcome>();
    fn is_sent<T: Send + 'static>(_: &T) {}
    is_sent(&minute().layer(Router::new()).oneshot(to("/")));
}

#[tokio::test] // P90
async fn it_steers_and_is_steered() {
    let runs = Runs::default();
    let page = |name: &'static str| {
        let runs = runs.clone();
        minute().layer(service_fn(move |_: Request| {
            let run = runs.next();
            async move { Ok::<_, Infallible>(Response::new(Body::from(format!("{name} {run}")))) }
        }))
    };
    let pick = |request: &Request, _: &[_]| usize::from(request.uri().path().starts_with("/b"));
    let steer = Steer::new(vec![page("a").boxed_clone(), page("b").boxed_clone()], pick);
    let around = minute().layer(steer);
    for (uri, body) in [("/a", "a 1"), ("/b", "b 2"), ("/a", "a 1"), ("/b", "b 2")] {
        assert_eq!(Seen::of(infallible(around.clone().oneshot(to(uri)).await)).await.body, body);
    }
}

#[tokio::test] // P90
async fn it_wraps_boxed_services_and_is_boxed() {
    let runs = Runs::default();
    let own = runs.clone();
    let page = service_fn(move |_: Request| {
        let run = own.next();
        async move { Ok::<_, Infallible>(Response::new(Body::from(run.to_string()))) }
    });
    let inner = BoxCloneService::new(page.clone());
    let outer = BoxCloneService::new(minute().layer(inner));
    let synced = BoxCloneSyncService::new(minute().layer(BoxCloneSyncService::new(page)));
    for _ in 0..2 {
        assert_eq!(Seen::of(infallible(outer.clone().oneshot(to("/")).await)).await.body, "1");
    }
    for _ in 0..2 {
        assert_eq!(Seen::of(infallible(synced.clone().oneshot(to("/")).await)).await.body, "2");
    }
}

//! What HTTP layers keep in a store: whole responses, each under what selects it.

use std::{convert::Infallible, time::Duration};

use axum::{Router, response::IntoResponse};
use cacheback::{Cache, CachebackLayer, ForceRefresh, Freshness, Http, Scope, grpc, testing::LocalStore};
use http::StatusCode;
use http_body_util::BodyExt;
use tower::{Layer, ServiceExt, service_fn};

use crate::support::{
    http::{Clients, Origin, get, get_with, pass, request, saying, send},
    typed::{at_once, idle, in_time},
};

/// A process with an application of its own behind a layer.
struct Instance {
    origin: Origin,
    cache: Cache,
    app: Router,
}

impl Instance {
    fn new(store: &LocalStore, origin: Origin, layer: impl FnOnce(&Cache) -> CachebackLayer<Http>) -> Self {
        let cache = Cache::builder().store(store.clone()).build();
        let app = origin.behind(layer(&cache));
        Self { origin, cache, app }
    }

    /// In application mode, with a minute for what says nothing.
    fn of(store: &LocalStore, origin: Origin) -> Self {
        Self::new(store, origin, |cache| cache.layer(crate::secs(60)))
    }

    async fn get(&self, uri: &str, fields: &[(&str, &str)]) -> String {
        let reply = get_with(&self.app, uri, fields).await;
        self.cache.settled().await;
        format!("{} ({})", reply.text(), reply.said())
    }
}

fn named(name: &'static str, fields: &[(&str, &str)]) -> Origin {
    let fields = crate::support::http::headers(fields);
    Origin::new(move |seen| (fields.clone(), format!("{name} {}", seen.run)))
}

#[tokio::test(start_paused = true)] // P45, P70
async fn a_page_is_found_as_it_was_made_fields_body_and_age() {
    let store = LocalStore::new();
    let respond = || {
        let lines =
            [("x-line", "one"), ("x-line", "two"), ("etag", "\"a\""), ("date", "Mon, 01 Jan 2024 00:00:00 GMT")];
        let fields = crate::support::http::headers(&lines);
        Origin::new(move |_| (StatusCode::NON_AUTHORITATIVE_INFORMATION, fields.clone(), "a page"))
    };
    let (one, other) = (Instance::of(&store, respond()), Instance::of(&store, respond()));
    let made = get(&one.app, "http://a/page").await;
    one.cache.settled().await;
    pass(7.0).await;
    let found = get(&other.app, "http://a/page").await;
    assert_eq!((other.origin.runs(), found.status, found.text()), (0, made.status, "a page"));
    assert_eq!((found.field("x-line"), found.field("age")), ("one|two".to_owned(), "7".to_owned()));
    assert_eq!((found.field("date"), found.field("etag")), (made.field("date"), made.field("etag")));
    assert_eq!(found.field("cache-status"), "cacheback; hit; ttl=53; detail=store");
    assert_eq!(found.field("content-length"), "6");
}

#[tokio::test(start_paused = true)] // P44
async fn variants_are_kept_apart_by_all_fields_that_anybody_has_named() {
    let store = LocalStore::new();
    let [de, en] = ["de", "en"].map(|language| [("accept-language", language)]);
    let one = Instance::of(&store, named("one", &[("vary", "accept-language")]));
    let other = Instance::of(&store, named("other", &[("vary", "x-theme")]));
    assert!(one.get("/", &de).await.starts_with("one 1 (fwd=uri-miss"));
    assert!(other.get("/", &de).await.starts_with("one 1 (hit;"), "it has been told by which field to look");
    assert!(other.get("/", &en).await.starts_with("other 1 (fwd=vary-miss"));
    // What the other has made is selected by a field more. Whoever asks for it finds it, by both.
    let third = Instance::of(&store, named("third", &[("vary", "accept-language, x-theme")]));
    assert!(third.get("/", &en).await.starts_with("other 1 (hit;"));
    let themed = [("accept-language", "en"), ("x-theme", "dark")];
    assert!(third.get("/", &themed).await.starts_with("third 1 (fwd=vary-miss"));
    // By its own word it is the same in every language.
    assert_eq!(third.get("/", &de).await, "other 1 (hit; ttl=60)");
}

#[tokio::test(start_paused = true)] // P33, P44
async fn a_variant_that_is_put_all_have_at_their_next_read() {
    let store = LocalStore::new();
    let [one, two] = [(); 2].map(|()| Instance::of(&store, named("made", &[("vary", "accept-language")])));
    let de = [("accept-language", "de")];
    one.get("http://a/page", &de).await;
    let page = http::Request::get("http://a/page").header("accept-language", "de").body(String::new()).unwrap();
    let response = http::Response::builder().header("vary", "accept-language").body("put".to_owned()).unwrap();
    one.cache.layer(crate::secs(60)).put(page, response).await.unwrap();
    assert_eq!(two.get("http://a/page", &de).await, "put (hit; ttl=60; detail=store)");
}

#[tokio::test(start_paused = true)] // P5, P44
async fn a_variant_that_is_refreshed_again_and_again_is_found_for_as_long() {
    let store = LocalStore::new();
    let cache = Cache::builder().memory(0).store(store.clone()).build();
    let stale = Freshness::new(crate::secs(30)).stale_while_revalidate(crate::secs(60));
    let app = named("made", &[("vary", "accept-language")]).behind(cache.layer(stale));
    for read in 0..20 {
        let page = get_with(&app, "http://a/page", &[("accept-language", "de")]).await;
        assert!(read == 0 || page.said().starts_with("hit"), "read {read}: {}", page.said());
        cache.settled().await;
        pass(40.0).await;
    }
}

#[tokio::test(start_paused = true)] // P31, P36
async fn a_post_has_the_store_forget_what_it_may_have_changed_before_it_is_answered() {
    let store = LocalStore::new();
    let (one, other) = (Instance::of(&store, named("one", &[])), Instance::of(&store, named("other", &[])));
    one.get("http://a/page", &[]).await;
    assert_eq!(store.records(), 1);
    send(&other.app, request("POST", "http://a/page", &[])).await;
    assert_eq!(store.records(), 0);
    // A store that does not answer is waited for no longer than it may take.
    store.delay(crate::secs(3_600));
    let post = send(&other.app, request("POST", "http://a/page", &[]));
    in_time(Duration::from_millis(102), post).await;
}

#[tokio::test(start_paused = true)] // P22, P23
async fn a_failure_leaves_in_the_store_what_it_holds_and_another_answer_takes_it_away() {
    for (status, left) in [(503, 1), (404, 0)] {
        let store = LocalStore::new();
        Instance::of(&store, named("one", &[])).get("http://a/", &[]).await;
        let other = Instance::of(&store, Origin::new(move |_| StatusCode::from_u16(status).unwrap()));
        let mut forced = request("GET", "http://a/", &[]);
        forced.extensions_mut().insert(ForceRefresh);
        assert_eq!(send(&other.app, forced).await.status, status);
        other.cache.settled().await;
        assert_eq!(store.records(), left, "{status}");
    }
}

#[tokio::test(start_paused = true)] // P80
async fn what_a_grpc_layer_has_stored_others_find_with_its_trailers() {
    let store = LocalStore::new();
    let answered = |price: &'static [u8]| {
        let cache = Cache::builder().store(store.clone()).build();
        let layer = cache.grpc().method("/quotes.Quotes/Get", crate::secs(60));
        let answer = move |_| async move { Ok::<_, Infallible>(grpc::answer(price)) };
        (layer.layer(service_fn(answer)), cache)
    };
    let (one, one_cache) = answered(b"one");
    let (other, other_cache) = answered(b"other");
    let call = || grpc::call("http://a/quotes.Quotes/Get", b"ACME").unwrap();
    one.oneshot(call()).await.unwrap().into_body().collect().await.unwrap();
    one_cache.settled().await;
    let found = other.clone().oneshot(call()).await.unwrap();
    assert_eq!(found.headers()["cache-status"], "cacheback; hit; ttl=60; detail=store");
    let found = found.into_body().collect().await.unwrap();
    assert_eq!(found.trailers().unwrap()["grpc-status"], "0");
    assert_eq!(found.to_bytes(), grpc::frame(b"one"));
    let scope = Scope::message("/quotes.Quotes/Get", b"ACME").unwrap();
    other_cache.purge(scope).await.unwrap();
    assert_eq!(store.records(), 0);
    let new = other.oneshot(call()).await.unwrap().into_body().collect().await.unwrap();
    assert_eq!(new.to_bytes(), grpc::frame(b"other"));
}

#[tokio::test(start_paused = true)] // P34
async fn a_page_is_purged_from_the_store_by_path_and_by_tag() {
    let store = LocalStore::new();
    let tagged = Origin::new(|seen| saying(cacheback::Tags::new(["t"]), seen.run.to_string()));
    let one = Instance::of(&store, tagged);
    for scope in [Scope::path("/page").unwrap(), Scope::tag("t"), Scope::path_prefix("/").unwrap(), Scope::everything()]
    {
        one.get("http://a/page?x=1", &[]).await;
        assert_eq!(store.records(), 1);
        one.cache.purge(scope).await.unwrap();
        assert_eq!(store.records(), 0);
    }
}

#[tokio::test(start_paused = true)] // P46
async fn what_was_found_is_validated_and_what_was_validated_is_saved_again() {
    let store = LocalStore::new();
    let origin = || {
        Origin::new(|seen| {
            let fields = [("etag", "\"a\""), ("cache-control", "max-age=10, stale-while-revalidate=100")];
            if seen.headers.contains_key("if-none-match") {
                (StatusCode::NOT_MODIFIED, fields, "").into_response()
            } else {
                (fields, "a page").into_response()
            }
        })
    };
    let [one, two, three] = [(); 3].map(|()| Instance::new(&store, origin(), Cache::http));
    assert!(one.get("http://a/", &[]).await.starts_with("a page (fwd=uri-miss"));
    pass(20.0).await;
    assert_eq!(two.get("http://a/", &[]).await, "a page (hit; ttl=-10; detail=store)");
    assert_eq!(two.origin.last().field("if-none-match"), "\"a\"");
    assert_eq!(three.get("http://a/", &[]).await, "a page (hit; ttl=10; detail=store)");
    assert_eq!(three.origin.runs(), 0);
}

#[tokio::test(start_paused = true)] // P46, P72
async fn what_was_invalidated_unheard_is_not_brought_back_by_its_validation() {
    for memory in [1 << 20, 0] {
        let store = LocalStore::new();
        let stale = Freshness::new(crate::secs(30)).stale_while_revalidate(crate::secs(60));
        let [one, two] = [(); 2].map(|()| Cache::builder().memory(memory).store(store.clone()).build());
        let origin = Origin::new(|seen| {
            let fields = [("etag", "\"a\"")];
            if seen.headers.contains_key("if-none-match") {
                (StatusCode::NOT_MODIFIED, fields, String::new()).into_response()
            } else {
                (fields, seen.run.to_string()).into_response()
            }
        });
        let app = origin.behind(one.layer(stale));
        get(&app, "http://a/").await;
        one.settled().await;
        pass(40.0).await;
        store.cut(true);
        assert_eq!(get(&app, "http://a/").await.text(), "1");
        two.purge(Scope::everything()).await.unwrap();
        one.settled().await;
        assert_eq!((origin.last().field("if-none-match"), store.records()), ("\"a\"".into(), 0));
        store.cut(false);
        assert_eq!(get(&app, "http://a/").await.text(), "3");
    }
}

#[tokio::test(start_paused = true)] // P15, P43
async fn what_is_one_s_own_is_not_in_the_store() {
    let store = LocalStore::new();
    for fields in [[("cache-control", "private")], [("set-cookie", "id=1")], [("cache-control", "no-store")]] {
        let one = Instance::of(&store, named("one", &fields));
        one.get("http://a/", &[]).await;
        one.get("http://a/x", &[("cookie", "id=1")]).await;
        one.get("http://a/x", &[("authorization", "me")]).await;
        assert_eq!(store.records(), 0, "{fields:?}");
    }
}

#[tokio::test(start_paused = true)] // P93
async fn layers_with_other_rules_or_of_another_mode_find_nothing_of_one_another() {
    let store = LocalStore::new();
    let origin = || named("a page", &[("cache-control", "max-age=60")]);
    let plain = Instance::of(&store, origin());
    plain.get("http://a/", &[]).await;
    let keyed = Instance::new(&store, origin(), |cache| cache.layer(crate::secs(60)).key_header("x-theme"));
    let protocol = Instance::new(&store, origin(), Cache::http);
    for other in [keyed, protocol] {
        other.get("http://a/", &[]).await;
        assert_eq!(other.origin.runs(), 1);
    }
    let same = Instance::new(&store, origin(), |cache| cache.layer(Freshness::new(crate::secs(9))));
    same.get("http://a/", &[]).await;
    assert_eq!(same.origin.runs(), 0, "a lifetime is no rule of keys");
}

#[tokio::test(start_paused = true)] // P91
async fn caches_that_share_a_store_nest_as_layers_of_one_cache_do() {
    let store = LocalStore::new();
    let instance = |origin: Origin| {
        let [outer, inner] = [(); 2].map(|()| Cache::builder().store(store.clone()).build());
        let between = axum::middleware::map_response(async |response: axum::response::Response| {
            ([("x-between", "seen")], response)
        });
        let app = origin.behind(inner.layer(crate::secs(60))).layer(between).layer(outer.layer(crate::secs(60)));
        (app, outer)
    };
    let (app, outer) = instance(Origin::counting());
    // The one further in does not wait for the run that it is part of.
    assert_eq!(at_once(get(&app, "http://a/page")).await.text(), "1");
    outer.settled().await;
    // And what it makes is nothing that others have.
    let (another, _) = instance(Origin::counting());
    let found = get(&another, "http://a/page").await;
    assert_eq!((found.said(), found.field("x-between")), ("hit; ttl=60; detail=store".into(), "seen".into()));
}

#[tokio::test(start_paused = true)] // P44, P70
async fn instances_that_learn_that_there_are_variants_run_once_for_each() {
    let store = LocalStore::new();
    let all = [(); 4].map(|()| Instance::of(&store, named("page", &[("vary", "accept-language")])));
    let runs = || all.iter().map(|instance| instance.origin.runs()).sum::<usize>();
    all.iter().for_each(|instance| instance.origin.only_the_first(0));
    let mut clients = Clients::new();
    for (instance, language) in all.iter().zip(["de", "en", "en", "en"]) {
        clients.get(&instance.app, "http://a/page", &[("accept-language", language)]).await;
    }
    idle().await;
    assert_eq!(runs(), 1);
    all[0].origin.release();
    idle().await;
    assert_eq!(runs(), 2, "one of three");
    all.iter().for_each(|instance| instance.origin.release());
    clients.answers().await;
    assert_eq!(runs(), 2);
}

//! What is invalidated on one instance is so on all: in what they share, in their memories, and for what they are at.

use axum::body::Body;
use cacheback::{ForceRefresh, Scope};
use http::Response;

use crate::{
    instance::{Instance, Place, crowd, runs},
    servers::{Proxy, Server, in_time, until},
    support::http::{request, send},
};

/// By what a page is invalidated.
pub(crate) const KINDS: [&str; 9] =
    ["its key", "its URI", "its path", "a path above", "its tag", "its group", "its namespace", "everything", "POST"];

/// Pages with a tag that is known from their responses alone.
pub(crate) fn pages() -> impl Iterator<Item = String> {
    (0..).map(|number| format!("http://a/tagged/{number}/page"))
}

/// Hard, or soft where there is such a thing.
pub(crate) async fn invalidate(instance: &Instance, kind: &str, uri: &str, is_hard: bool) {
    let path = uri.strip_prefix("http://a").unwrap();
    let scope = match kind {
        "its key" => instance.cache.peek(Scope::uri(uri).unwrap())[0].key().into(),
        "its URI" => Scope::uri(uri).unwrap(),
        "its path" => Scope::path(path).unwrap(),
        "a path above" => Scope::path_prefix(path.strip_suffix("/page").unwrap()).unwrap(),
        "its tag" => Scope::tag("quotes"),
        "its group" => Scope::group("http://a", "quotes").unwrap(),
        "its namespace" => Scope::namespace("shop"),
        "everything" => Scope::everything(),
        _ => return instance.post(uri).await,
    };
    let told = if is_hard { instance.cache.purge(scope).await } else { instance.cache.expire(scope).await };
    told.unwrap_or_else(|error| panic!("{kind}: {error}"));
}

fn is_in_memory(instance: &Instance, uri: &str) -> bool {
    !instance.cache.peek(Scope::uri(uri).unwrap()).is_empty()
}

#[tokio::test] // P30, P31, P71
async fn what_another_instance_invalidates_during_a_run_is_not_stored_whether_the_run_hears_of_that_or_not() {
    let server = Server::start().await;
    let proxy = Proxy::to(server.address()).await;
    let (one, three) = (Instance::at(&server, "one").await, Instance::at(&server, "three").await);
    let two = Instance::at(&proxy, "two").await;
    let cases = [(true, true), (true, false), (false, true), (false, false)];
    let cases = cases.iter().flat_map(|case| KINDS.map(|kind| (kind, case)));
    for (uri, (kind, (is_heard, is_hard))) in pages().zip(cases) {
        let case = format!("{kind}, hard: {is_hard}, heard: {is_heard}");
        proxy.lose_messages(!is_heard);
        let before = one.get(&uri).await;
        assert!(before.starts_with("one "), "{case}: {before}");
        two.origin.only_the_first(two.origin.runs());
        let mut forced = request("GET", &uri, &[]);
        forced.extensions_mut().insert(ForceRefresh);
        let (app, next) = (two.app.clone(), two.origin.runs() + 1);
        let running = tokio::spawn(async move { send(&app, forced).await });
        two.begun(next).await;
        invalidate(&one, kind, &uri, *is_hard).await;
        two.origin.release();
        assert_eq!(in_time("an answer", running).await.unwrap().text(), format!("two {next}"), "{case}");
        in_time("runs end", two.cache.settled()).await;
        assert!(!is_in_memory(&two, &uri), "{case}");
        let new = three.get(&uri).await;
        assert!(new.starts_with("three "), "{case}: {new}");
        assert_eq!(two.get(&uri).await, new, "{case}");
    }
}

#[tokio::test] // P34, P72
async fn what_one_instance_purges_goes_from_the_memory_of_the_others() {
    a_purge_reaches_all(&Server::start().await).await;
}

/// What one instance purges, by whatever it is named, goes from the memory of the other one, and from what they share.
pub(crate) async fn a_purge_reaches_all(place: &impl Place) {
    let (one, two) = (Instance::at(place, "one").await, Instance::at(place, "two").await);
    for (uri, kind) in pages().zip(KINDS) {
        let old = one.get(&uri).await;
        assert_eq!((two.get(&uri).await, two.get(&uri).await), (old.clone(), old), "{kind}");
        invalidate(&one, kind, &uri, true).await;
        until("the other hears of it", async || !is_in_memory(&two, &uri)).await;
        let new = two.get(&uri).await;
        assert!(new.starts_with("two "), "{kind}: {new}");
        assert_eq!(one.get(&uri).await, new, "{kind}");
    }
    assert_eq!(one.cache.stats().store_failures + two.cache.stats().store_failures, 0);
}

#[tokio::test] // P34, P70
async fn what_one_instance_expires_all_serve_stale_and_one_refreshes() {
    let server = Server::start().await;
    let (one, two) = (Instance::at(&server, "one").await, Instance::at(&server, "two").await);
    let kinds = KINDS.into_iter().filter(|kind| *kind != "POST");
    for (uri, kind) in pages().zip(kinds) {
        let uri: &'static str = uri.leak();
        let old = one.get(uri).await;
        assert_eq!(two.get(uri).await, old, "{kind}");
        invalidate(&one, kind, uri, false).await;
        let has_expired = || two.cache.peek(Scope::uri(uri).unwrap()).iter().any(|kept| kept.is_expired());
        until("the other hears of it", async || has_expired()).await;
        let all = [one.clone(), two.clone()];
        let before = runs(&all);
        all.iter().for_each(|instance| instance.origin.only_the_first(0));
        let answers = in_time("stale answers", crowd(&all, uri).join_all()).await;
        assert!(answers.iter().all(|answer| *answer == old), "{kind}: {answers:?}");
        for instance in &all {
            instance.is_at_it().await;
        }
        until("one refreshes", async || runs(&all) > before).await;
        all.iter().for_each(|instance| instance.origin.release());
        for instance in &all {
            in_time("runs end", instance.cache.settled()).await;
        }
        let new = one.get(uri).await;
        assert_eq!((two.get(uri).await, runs(&all)), (new.clone(), before + 1), "{kind}");
        assert_ne!(new, old, "{kind}");
    }
}

#[tokio::test] // P72
async fn an_instance_does_not_hear_what_it_has_said_itself() {
    let server = Server::start().await;
    let (one, two) = (Instance::at(&server, "one").await, Instance::at(&server, "two").await);
    for page in ["http://a/1", "http://a/2"] {
        one.get(page).await;
    }
    one.cache.expire(Scope::uri("http://a/1").unwrap()).await.unwrap();
    // What comes after it has come.
    two.cache.purge(Scope::uri("http://a/2").unwrap()).await.unwrap();
    until("a message comes", async || !is_in_memory(&one, "http://a/2")).await;
    let stats = one.cache.stats();
    assert_eq!((stats.expiries, stats.purges, stats.invalidated), (1, 1, 2));
}

#[tokio::test] // P72, P74
async fn what_an_instance_has_not_heard_of_while_it_was_cut_off_it_asks_for_once_it_can() {
    let server = Server::start().await;
    let proxy = Proxy::to(server.address()).await;
    let (one, two) = (Instance::at(&server, "one").await, Instance::at(&proxy, "two").await);
    let (kept, gone) = ("http://a/kept", "http://a/gone");
    for page in [kept, gone] {
        assert_eq!(one.get(page).await, two.get(page).await);
        assert_eq!(two.reply(page).await.said(), "hit; ttl=3599");
    }
    proxy.refuse(true);
    proxy.cut();
    until("it is cut off", async || two.cache.stats().store_is_down).await;
    one.cache.purge(Scope::uri(gone).unwrap()).await.unwrap();
    assert_eq!((two.get(gone).await, two.origin.runs()), ("one 2".to_owned(), 0), "memory serves for itself");
    proxy.refuse(false);
    until("it is back", async || !two.cache.stats().store_is_down).await;
    assert_eq!(two.get(gone).await, "two 1");
    let found = two.reply(kept).await;
    assert_eq!((found.text(), two.origin.runs()), ("one 1", 1));
    assert!(found.said().ends_with("detail=store"), "{}", found.said());
    assert!(!two.reply(kept).await.said().ends_with("detail=store"), "now it is known to be good");
}

#[tokio::test] // P71, P72
async fn an_operator_invalidates_by_deleting_a_token_which_shows_where_memory_asks_again() {
    let server = Server::start().await;
    let instances = Instance::several(&server, 2).await;
    let (kept, gone) = ("http://a/kept", "http://a/gone");
    for instance in &instances {
        assert_eq!((instance.get(kept).await, instance.get(gone).await), ("0 1".to_owned(), "0 2".to_owned()));
    }
    assert_eq!(server.ask::<usize>(&["DEL", "cacheback:t:uri://a/gone"]).await, 1);
    server.ask::<()>(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
    for instance in &instances {
        until("a miss", async || instance.get(gone).await != "0 2").await;
        assert_eq!(instance.get(kept).await, "0 1");
    }
    assert_eq!(runs(&instances), 3);
}

#[tokio::test] // P33
async fn what_is_put_on_one_instance_the_others_read_and_runs_that_began_before_do_not_replace_it() {
    let server = Server::start().await;
    let [one, two, three] =
        [Instance::at(&server, "one"), Instance::at(&server, "two"), Instance::at(&server, "three")];
    let (one, two, three) = tokio::join!(one, two, three);
    let uri = "http://a/page";
    three.origin.only_the_first(0);
    let running = three.getting(uri);
    three.begun(1).await;
    one.layer.put(request("GET", uri, &[]), Response::new(Body::from("put"))).await.unwrap();
    assert_eq!(two.get(uri).await, "put");
    three.origin.release();
    assert_eq!(in_time("an answer", running).await.unwrap().text(), "three 1");
    in_time("runs end", three.cache.settled()).await;
    for instance in [&one, &two, &three] {
        assert_eq!(instance.get(uri).await, "put");
    }
    // And what they have in memory makes room for what is put later.
    two.layer.put(request("GET", uri, &[]), Response::new(Body::from("put again"))).await.unwrap();
    for instance in [&one, &two, &three] {
        until("the others hear of it", async || instance.get(uri).await == "put again").await;
    }
    assert_eq!(runs(&[one, two, three]), 1);
}

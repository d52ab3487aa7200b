//! §3.5: requests with `Authorization`, in protocol mode.

use cacheback::{CachebackLayer, Detail, Http};
use http::{HeaderMap, StatusCode};

use super::{
    Origin, always, came,
    support::http::{Clients, get, get_with, headers, pass, settle},
};

const ALICE: [(&str, &str); 1] = [("authorization", "Basic alice")];
const BOB: [(&str, &str); 1] = [("authorization", "Basic bob")];

fn http() -> CachebackLayer<Http> {
    CachebackLayer::http()
}

fn control(value: &str) -> HeaderMap {
    headers(&[("cache-control", value)])
}

#[tokio::test(start_paused = true)] // P42
async fn rfc9111_3_5_what_answers_a_request_with_authorization_is_stored_only_where_it_says_that_it_may_be() {
    for said in
        ["public, max-age=60", "must-revalidate, max-age=60", "s-maxage=60", "public, no-cache=\"x\", max-age=60"]
    {
        let app = always(200, control(said)).behind(http());
        assert!(get_with(&app, "/x", &ALICE).await.outcome().is_stored(), "{said}");
        for other in [&[][..], &ALICE, &BOB] {
            let reply = get_with(&app, "/x", other).await;
            assert_eq!((came(&reply), reply.text()), ("fresh", "1"), "{said}");
        }
    }
    for said in [
        "max-age=60",
        "proxy-revalidate, max-age=60",
        "immutable, max-age=60",
        "public=1, max-age=60",
        "foo=\"public\", max-age=60",
    ] {
        let app = always(200, control(said)).behind(http());
        let first = get_with(&app, "/x", &ALICE).await.outcome();
        assert_eq!((first.detail(), first.is_stored()), (Some(Detail::Credential), false), "{said}");
        for (other, run) in [(&BOB[..], "2"), (&ALICE, "3"), (&[], "4")] {
            assert_eq!(get_with(&app, "/x", other).await.text(), run, "{said}");
        }
    }
    let expires = headers(&[("expires", "Fri, 31 Dec 9999 23:59:59 GMT"), ("etag", "\"1\"")]);
    let app = always(200, expires).behind(http());
    assert!(!get_with(&app, "/x", &ALICE).await.outcome().is_stored());
}

#[tokio::test(start_paused = true)] // P42
async fn rfc9111_3_5_a_request_with_authorization_is_answered_by_what_was_stored_for_others() {
    let origin = always(200, control("max-age=60"));
    let app = origin.behind(http());
    get(&app, "/x").await;
    let reply = get_with(&app, "/x", &ALICE).await;
    assert_eq!((came(&reply), reply.text(), origin.runs()), ("fresh", "1", 1));
}

#[tokio::test(start_paused = true)] // P42
async fn rfc9111_3_5_a_key_that_tells_users_apart_lets_each_have_his_own() {
    let origin = always(200, control("max-age=60"));
    let app = origin.behind(http().key_header("authorization"));
    for (user, run) in [(&ALICE[..], "1"), (&BOB, "2"), (&[], "3"), (&ALICE, "1"), (&BOB, "2"), (&[], "3")] {
        assert_eq!(get_with(&app, "/x", user).await.text(), run);
    }
}

#[tokio::test(start_paused = true)] // P10, P15
async fn rfc9111_3_5_nobody_waits_behind_a_request_with_authorization_nor_it_behind_others() {
    let origin = always(200, control("max-age=60"));
    let app = origin.behind(http());
    origin.only_the_first(0);
    let mut clients = Clients::new();
    for user in [&ALICE[..], &ALICE, &[], &BOB, &[]] {
        clients.get(&app, "/x", user).await;
    }
    origin.begun(4).await;
    origin.release();
    let answers = clients.answers().await;
    assert_eq!(origin.runs(), 4, "those without it are collapsed");
    assert_eq!(answers.iter().filter(|answer| answer.outcome().is_collapsed()).count(), 1);
    assert!(answers[4].outcome().is_collapsed());
    assert_eq!(answers[2].text(), answers[4].text());
}

/// What a request with `Authorization` may be answered with that says nothing of what others get.
fn own_answers() -> [(StatusCode, HeaderMap); 9] {
    let ok = |fields: &[(&str, &str)]| (StatusCode::OK, headers(fields));
    [
        ok(&[("cache-control", "max-age=60")]),
        ok(&[("cache-control", "private, max-age=60")]),
        ok(&[("cache-control", "no-store")]),
        ok(&[("cache-control", "no-cache")]),
        ok(&[("set-cookie", "a=1"), ("cache-control", "max-age=60")]),
        ok(&[("vary", "*"), ("cache-control", "max-age=60")]),
        (StatusCode::UNAUTHORIZED, headers(&[("www-authenticate", "Basic")])),
        (StatusCode::FORBIDDEN, HeaderMap::new()),
        (StatusCode::NOT_FOUND, headers(&[("cache-control", "max-age=60")])),
    ]
}

/// An origin that gives those who do not say who they are this, and to each who does his own.
fn origin(anonymous: &'static str, (status, own): (StatusCode, HeaderMap)) -> Origin {
    Origin::new(move |seen| match seen.field("authorization").as_str() {
        "" => (StatusCode::OK, control(anonymous), format!("for all {}", seen.run)),
        _ => (status, own.clone(), format!("own {}", seen.run)),
    })
}

#[tokio::test(start_paused = true)] // P23, P42
async fn rfc9111_3_5_what_is_for_those_without_authorization_is_refreshed_behind_none_who_has_one() {
    for own in own_answers() {
        let what = format!("{own:?}");
        let layer = http();
        let origin = origin("max-age=10, stale-while-revalidate=60", own);
        let app = origin.behind(layer.clone());
        get(&app, "/x").await;
        pass(10.0).await;
        // What he would get is not what others get.
        let reply = get_with(&app, "/x", &ALICE).await;
        assert_eq!((came(&reply), reply.text()), ("stale", "for all 1"), "{what}");
        layer.cache().settled().await;
        assert_eq!(origin.runs(), 1, "{what}");
        get(&app, "/x").await;
        layer.cache().settled().await;
        let reply = get(&app, "/x").await;
        assert_eq!((came(&reply), reply.text()), ("fresh", "for all 2"), "{what}");
    }
}

#[tokio::test(start_paused = true)] // P23, P42
async fn rfc9111_3_5_a_stale_response_survives_a_refresh_with_authorization_that_may_not_be_stored() {
    for own in own_answers() {
        let what = format!("{own:?}");
        let layer = http();
        let origin = origin("public, max-age=10, stale-while-revalidate=60", own);
        let app = origin.behind(layer.clone());
        get(&app, "/x").await;
        pass(10.0).await;
        // It may be for all: his request is the one that is re-run behind him.
        let reply = get_with(&app, "/x", &ALICE).await;
        assert_eq!((came(&reply), reply.text()), ("stale", "for all 1"), "{what}");
        layer.cache().settled().await;
        assert_eq!((origin.runs(), origin.last().field("authorization").as_str()), (2, "Basic alice"), "{what}");
        // It was not, and others are none the worse for it.
        let reply = get(&app, "/x").await;
        assert_eq!((came(&reply), reply.text(), reply.outcome().detail()), ("stale", "for all 1", None), "{what}");
        layer.cache().settled().await;
        let reply = get(&app, "/x").await;
        assert_eq!((came(&reply), reply.text()), ("fresh", "for all 3"), "{what}");
    }
}

#[tokio::test(start_paused = true)] // P6, P15, P23
async fn rfc9111_3_5_one_who_waited_with_authorization_removes_nothing_puts_nothing_off_and_marks_nothing() {
    for own in own_answers() {
        let what = format!("{own:?}");
        let origin = origin("max-age=10, stale-if-error=600", own);
        let app = origin.behind(http());
        get(&app, "/x").await;
        pass(10.0).await;
        assert_eq!(get_with(&app, "/x", &ALICE).await.text(), "own 2", "{what}");
        // Those who come after him wait for one run, and not for what is too stale.
        origin.only_the_first(2);
        let mut clients = Clients::new();
        for _ in 0..3 {
            clients.get(&app, "/x", &[]).await;
        }
        origin.begun(3).await;
        origin.release();
        for reply in clients.answers().await {
            assert_eq!((reply.text(), reply.outcome().detail()), ("for all 3", None), "{what}");
        }
        assert_eq!(origin.runs(), 3, "{what}");
    }
}

#[tokio::test(start_paused = true)] // P5, P15
async fn rfc9111_3_5_nobody_waits_behind_a_refresh_with_authorization_nor_does_it_hold_up_another() {
    for waits in [true, false] {
        let layer = http();
        let origin = origin("public, max-age=10, stale-while-revalidate=30", own_answers()[0].clone());
        let app = origin.behind(layer.clone());
        get(&app, "/x").await;
        pass(10.0).await;
        origin.only_the_first(1);
        assert_eq!(came(&get_with(&app, "/x", &ALICE).await), "stale");
        origin.begun(2).await;
        assert_eq!(came(&get_with(&app, "/x", &BOB).await), "stale");
        settle().await;
        assert_eq!(origin.runs(), 2, "one such refresh is enough");
        // Past the window he would have to wait for it.
        pass(if waits { 30.0 } else { 1.0 }).await;
        let mut clients = Clients::new();
        clients.get(&app, "/x", &[]).await;
        clients.get(&app, "/x", &[]).await;
        origin.begun(3).await;
        assert_eq!((origin.runs(), origin.last().field("authorization").as_str()), (3, ""));
        origin.release();
        for reply in clients.answers().await {
            assert_eq!(reply.text(), if waits { "for all 3" } else { "for all 1" });
        }
        layer.cache().settled().await;
        settle().await;
        assert_eq!((came(&get(&app, "/x").await), get(&app, "/x").await.text()), ("fresh", "for all 3"));
    }
}

#[tokio::test(start_paused = true)] // P6
async fn rfc9111_3_5_what_is_stored_still_stands_in_for_a_failure_after_a_request_with_authorization() {
    let origin = Origin::new(|seen| match seen.run {
        1 => (StatusCode::OK, control("max-age=10, stale-if-error=600"), "for all"),
        2 => (StatusCode::OK, control("private"), "own"),
        _ => (StatusCode::BAD_GATEWAY, HeaderMap::new(), "failed"),
    });
    let app = origin.behind(http());
    get(&app, "/x").await;
    pass(10.0).await;
    assert_eq!(get_with(&app, "/x", &ALICE).await.text(), "own");
    let reply = get(&app, "/x").await;
    assert_eq!((came(&reply), reply.text()), ("instead", "for all"));
}

//! Cache groups (RFC 9875): a response says to which groups it belongs, and an unsafe request which groups it changed.

use axum::{Router, response::IntoResponse};
use cacheback::{Cache, CacheStatus, CachebackLayer, Freshness, Scope, Tags};
use http::StatusCode;

use crate::support::http::{Clients, Origin, Seen, get, get_with, headers, pass, request, saying, secs, send};

mod support;

/// The layers in both modes.
fn layers() -> [CachebackLayer; 2] {
    [CachebackLayer::http(), CachebackLayer::new(secs(600))]
}

/// The answer to a GET belongs to the groups that the request names in `x-groups`; any other one invalidates them.
fn grouping(seen: &Seen) -> axum::response::Response {
    let groups: Vec<_> = seen.headers.get_all("x-groups").iter().map(|line| line.to_str().expect("text")).collect();
    let name = if seen.method == "GET" { "cache-groups" } else { "cache-group-invalidation" };
    let mut fields = vec![("cache-control", "max-age=600")];
    fields.extend(groups.into_iter().map(|line| (name, line)));
    let status =
        seen.headers.get("x-status").map_or(200, |status| status.to_str().expect("text").parse().expect("a number"));
    (StatusCode::from_u16(status).expect("a status"), headers(&fields), seen.run.to_string()).into_response()
}

async fn store(app: &Router, host: &str, path: &str, groups: &[&str]) {
    let mut fields = vec![("host", host)];
    fields.extend(groups.iter().map(|line| ("x-groups", *line)));
    get_with(app, path, &fields).await;
}

async fn change(app: &Router, method: &str, host: &str, status: &str, groups: &[&str]) {
    let mut fields = vec![("host", host), ("x-status", status)];
    fields.extend(groups.iter().map(|line| ("x-groups", *line)));
    send(app, request(method, "/change", &fields)).await;
}

async fn is_stored(app: &Router, host: &str, path: &str) -> bool {
    get_with(app, path, &[("host", host)]).await.outcome().status() == CacheStatus::Hit
}

#[tokio::test(start_paused = true)] // P51
async fn rfc9875_3_an_unsafe_request_invalidates_the_groups_that_its_response_names() {
    for layer in layers() {
        for method in ["POST", "PUT", "DELETE", "PATCH", "BREW"] {
            for status in ["200", "204", "303"] {
                let app = Origin::new(grouping).behind(layer.clone());
                store(&app, "a.example", "/1", &["\"scripts\", \"kylie\""]).await;
                store(&app, "a.example", "/2", &["\"styles\"", "\"kylie\""]).await;
                store(&app, "a.example", "/3", &["\"styles\""]).await;
                store(&app, "a.example", "/4", &[]).await;
                change(&app, method, "a.example", status, &["\"kylie\";x, \"none\"", "\"others\""]).await;
                for (path, stored) in [("/1", false), ("/2", false), ("/3", true), ("/4", true)] {
                    assert_eq!(is_stored(&app, "a.example", path).await, stored, "{method} {status} {path}");
                }
                layer.cache().purge(Scope::everything()).await.unwrap();
            }
        }
    }
}

#[tokio::test(start_paused = true)] // P51
async fn rfc9875_3_it_is_ignored_on_safe_methods_and_on_errors_and_where_the_layer_says_so() {
    let quiet = CachebackLayer::http().unsafe_invalidates(false);
    for (layer, method, status) in [
        (CachebackLayer::http(), "OPTIONS", "200"),
        (CachebackLayer::http(), "PROPFIND", "200"),
        (CachebackLayer::http(), "HEAD", "200"),
        (CachebackLayer::http(), "POST", "404"),
        (CachebackLayer::http(), "POST", "500"),
        (quiet, "POST", "200"),
    ] {
        let app = Origin::new(grouping).behind(layer);
        store(&app, "a.example", "/1", &["\"g\""]).await;
        change(&app, method, "a.example", status, &["\"g\""]).await;
        assert!(is_stored(&app, "a.example", "/1").await, "{method} {status}");
    }
    // A GET that says so, stored or not, is as safe as any other.
    let fields = [("cache-control", "max-age=600"), ("cache-groups", "\"g\""), ("cache-group-invalidation", "\"g\"")];
    let app = Origin::with_fields(&fields).behind(CachebackLayer::http());
    for path in ["/1", "/2", "/1"] {
        get(&app, path).await;
    }
    assert_eq!(get(&app, "/1").await.text(), "1");
}

#[tokio::test(start_paused = true)] // P51
async fn rfc9875_2_1_a_group_is_of_one_origin_and_its_name_is_compared_to_the_letter() {
    for layer in layers() {
        let app = Origin::new(grouping).behind(layer);
        for host in ["a.example", "b.example", "a.example:8080"] {
            store(&app, host, "/1", &["\"g\""]).await;
        }
        store(&app, "a.example", "/2", &["\"G\", \"g \", \"gg\""]).await;
        change(&app, "POST", "A.example:80", "200", &["\"g\""]).await;
        for (host, path, stored) in [
            ("a.example", "/1", false),
            ("a.example", "/2", true),
            ("b.example", "/1", true),
            ("a.example:8080", "/1", true),
        ] {
            assert_eq!(is_stored(&app, host, path).await, stored, "{host}{path}");
        }
    }
}

#[tokio::test(start_paused = true)] // P51
async fn rfc9875_2_malformed_fields_are_ignored_as_a_whole() {
    for malformed in ["g", "\"g\", h", "\"g", "(\"g\")", "\"g\","] {
        let app = Origin::new(grouping).behind(CachebackLayer::http());
        store(&app, "a.example", "/1", &[malformed]).await;
        store(&app, "a.example", "/2", &["\"g\""]).await;
        change(&app, "POST", "a.example", "200", &[malformed]).await;
        assert!(is_stored(&app, "a.example", "/2").await, "{malformed}");
        change(&app, "POST", "a.example", "200", &["\"g\""]).await;
        assert!(is_stored(&app, "a.example", "/1").await, "{malformed}");
    }
}

#[tokio::test(start_paused = true)] // P51
async fn rfc9875_2_each_of_64_groups_of_64_characters_counts() {
    let name = |n: usize| format!("\"{n:g>64}\"");
    let all: Vec<_> = (0..64).map(name).collect();
    let all = all.join(", ");
    let app = Origin::new(grouping).behind(CachebackLayer::http());
    for n in 0..64 {
        let page = format!("/all/{n}");
        store(&app, "a.example", &page, &[&all]).await;
        change(&app, "POST", "a.example", "200", &[&name(n)]).await;
        assert!(!is_stored(&app, "a.example", &page).await, "{n}");
    }
    for n in 0..64 {
        store(&app, "a.example", &format!("/{n}"), &[&name(n)]).await;
    }
    change(&app, "POST", "a.example", "200", &[&all]).await;
    for n in 0..64 {
        assert!(!is_stored(&app, "a.example", &format!("/{n}")).await, "{n}");
    }
}

#[tokio::test(start_paused = true)] // P51
async fn rfc9875_2_2_1_an_invalidation_does_not_cascade() {
    let app = Origin::new(grouping).behind(CachebackLayer::http());
    store(&app, "a.example", "/1", &["\"a\", \"b\""]).await;
    store(&app, "a.example", "/2", &["\"b\", \"c\""]).await;
    change(&app, "POST", "a.example", "200", &["\"a\""]).await;
    assert!(!is_stored(&app, "a.example", "/1").await);
    assert!(is_stored(&app, "a.example", "/2").await);
}

#[tokio::test(start_paused = true)] // P51
async fn groups_are_tags_and_an_application_means_them_on_every_host() {
    let cache = Cache::new();
    let tagged = |seen: &Seen| {
        let groups = headers(&[("cache-control", "max-age=600"), ("cache-groups", "\"field\"")]);
        match seen.method.as_str() {
            "GET" => saying(Tags::new(["said"]), (groups, seen.run.to_string())),
            _ => [("cache-group-invalidation", "\"said\"")].into_response(),
        }
    };
    let app = Origin::new(tagged).behind(cache.http());
    for tag in ["said", "field"] {
        for host in ["a.example", "b.example"] {
            store(&app, host, "/1", &[]).await;
        }
        assert_eq!(cache.purge_tag(tag).await.unwrap().entries, 2, "{tag}");
        for host in ["a.example", "b.example"] {
            store(&app, host, "/1", &[]).await;
        }
        let on_a = Scope::group("https://a.example", tag).unwrap();
        assert_eq!(cache.expire(on_a).await.unwrap().entries, 1, "{tag}");
        assert!(is_stored(&app, "b.example", "/1").await, "{tag}");
    }
    for host in ["a.example", "b.example"] {
        store(&app, host, "/1", &[]).await;
    }
    change(&app, "POST", "a.example", "200", &[]).await;
    assert!(!is_stored(&app, "a.example", "/1").await && is_stored(&app, "b.example", "/1").await);
}

#[tokio::test(start_paused = true)] // P31, P51
async fn a_fill_that_the_invalidation_of_its_group_overtook_is_not_stored() {
    let cache = Cache::new();
    let (read, written) = (Origin::new(grouping), Origin::new(grouping));
    let (reads, writes) = (read.behind(cache.http()), written.behind(cache.http()));
    read.only_the_first(0);
    let mut readers = Clients::new();
    for (host, group) in [("a.example", "\"g\""), ("a.example:81", "\"g\""), ("b.example", "\"g\"")] {
        readers.get(&reads, "/1", &[("host", host), ("x-groups", group)]).await;
    }
    readers.get(&reads, "/2", &[("host", "a.example"), ("x-groups", "\"h\"")]).await;
    change(&writes, "POST", "a.example", "200", &["\"g\""]).await;
    read.release();
    readers.answers().await;
    for (host, path, stored) in
        [("a.example", "/1", false), ("a.example:81", "/1", true), ("b.example", "/1", true), ("a.example", "/2", true)]
    {
        assert_eq!(is_stored(&reads, host, path).await, stored, "{host}{path}");
    }
}

#[tokio::test(start_paused = true)] // P46, P51
async fn rfc9111_3_2_a_304_may_change_the_groups_and_leaves_tags_as_they_were_said() {
    let cache = Cache::new();
    let origin = Origin::new(|seen| {
        let again = seen.headers.contains_key("if-none-match");
        let status = if again { StatusCode::NOT_MODIFIED } else { StatusCode::OK };
        let group = if again { "\"new\"" } else { "\"old\"" };
        let fields = [("etag", "\"a\""), ("cache-control", "max-age=9"), ("cache-groups", group)];
        let response = (status, headers(&fields), "body");
        if again { response.into_response() } else { saying(Tags::new(["said"]), response) }
    });
    let app = origin.behind(cache.http());
    get(&app, "/").await;
    pass(10.0).await;
    get(&app, "/").await;
    for (tag, reached) in [("old", 0), ("said", 1), ("new", 1)] {
        assert_eq!(cache.expire_tag(tag).await.unwrap().entries, reached, "{tag}");
    }
}

#[tokio::test(start_paused = true)] // P51, P91
async fn an_outer_cache_knows_the_groups_of_what_an_inner_one_answers() {
    let outer = Cache::new();
    let fields = [("cache-control", "max-age=600"), ("cache-groups", "\"g\"")];
    let app =
        Origin::with_fields(&fields).behind(CachebackLayer::http()).layer(outer.layer(Freshness::exact(secs(600))));
    get(&app, "/").await;
    outer.purge_path("/").await.unwrap();
    let reply = get(&app, "/").await;
    assert_eq!((reply.field("cache-groups"), reply.text()), ("\"g\"".into(), "1"), "the field passes on");
    assert_eq!(outer.purge_tag("g").await.unwrap().entries, 1);
}

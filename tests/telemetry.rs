//! What is told of a cache to those who trace: a run is a span of its own, and each event comes once.
#![cfg(feature = "tracing")]
#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use std::{
    fmt,
    sync::{Arc, Mutex},
};

use cacheback::CachebackLayer;
use support::{
    http as web,
    typed::{Act, Origin, ask, idle, layer, pass, secs},
};
use tower::Layer as _;
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id},
    subscriber::DefaultGuard,
};
use tracing_subscriber::{
    layer::{Context, Layer, SubscriberExt},
    registry::LookupSpan,
};

/// What was told.
#[derive(Clone, Debug, Default)]
struct Told(Arc<Mutex<Vec<String>>>);

impl Told {
    /// Listens until the guard is dropped.
    fn listen() -> (Self, DefaultGuard) {
        let told = Self::default();
        let guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(told.clone()));
        (told, guard)
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }

    fn note(&self, line: String) {
        self.0.lock().unwrap().push(line);
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Told {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if attributes.metadata().target() == "cacheback" {
            let parent = context.span(id).unwrap().parent().map_or("none", |parent| parent.name());
            let mut line = format!("span {} under {parent}", attributes.metadata().name());
            attributes.record(&mut Fields(&mut line));
            self.note(line);
        }
    }

    fn on_follows_from(&self, id: &Id, follows: &Id, context: Context<'_, S>) {
        let name = |id| context.span(id).unwrap().name();
        self.note(format!("{} follows from {}", name(id), name(follows)));
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        if event.metadata().target() == "cacheback" {
            let span = context.lookup_current().map_or("none", |span| span.name());
            let mut line = format!("in {span}:");
            event.record(&mut Fields(&mut line));
            self.note(line);
        }
    }
}

struct Fields<'a>(&'a mut String);

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.push_str(&format!(" {}={value:?}", field.name()));
    }
}

#[tokio::test(start_paused = true)] // P28
async fn a_run_is_a_span_of_its_own_that_follows_from_the_request_that_brought_it_about() {
    let (origin, layer) = (Origin::new(), layer().freshness(secs(10)));
    let service = layer.layer(origin.service());
    let (told, _listening) = Told::listen();
    for background in [false, true] {
        let request = tracing::info_span!("request").entered();
        ask(&service, "k").await.unwrap();
        drop(request);
        idle().await;
        let told = told.take();
        assert!(told.contains(&format!("span run under none background={background}")), "{told:#?}");
        assert!(told.contains(&"run follows from request".to_owned()), "{told:#?}");
        assert!(told.iter().any(|line| line.starts_with("in run: message=run ended end=Completed")), "{told:#?}");
        pass(secs(11)).await;
    }
}

#[tokio::test(start_paused = true)] // P68 P95
async fn what_an_audit_finds_is_told_once_and_by_name() {
    let layer = CachebackLayer::new(secs(60)).audit_with(1, axum::body::Body::empty);
    let app = web::Origin::new(|seen| format!("in {}", seen.field("accept-language"))).behind(layer.clone());
    let (told, _listening) = Told::listen();
    for _ in 0..5 {
        web::get(&app, "/x").await;
        layer.cache().settled().await;
    }
    let leaks: Vec<_> = told.take().into_iter().filter(|line| line.contains("leak=")).collect();
    let words = "/x: the body depends on `accept-language`, which neither the key nor `Vary` names";
    assert_eq!(leaks, [format!("in audit: message=requests share a response that should not leak={words:?}")]);
}

#[tokio::test(start_paused = true)] // P68 P95
async fn an_audit_that_cannot_make_requests_is_warned_of_once() {
    let layer = CachebackLayer::new(secs(60)).audit_with(1, || "no body of axum's");
    let app = web::Origin::new(|_| "x").behind(layer.clone());
    let (told, _listening) = Told::listen();
    for _ in 0..5 {
        web::get(&app, "/x").await;
        layer.cache().settled().await;
    }
    assert_eq!(told.take().iter().filter(|line| line.contains("nothing is audited")).count(), 1);
}

#[tokio::test(start_paused = true)] // P95
async fn every_event_is_told_once() {
    let (origin, layer) = (Origin::new(), layer().freshness(secs(10)));
    let service = layer.layer(origin.service());
    let (told, _listening) = Told::listen();
    let asked = async || {
        let _answer = ask(&service, "k").await;
        idle().await;
        told.take()
    };
    let of = |lines: &[String], words: &str| lines.iter().filter(|line| line.contains(words)).count();

    let miss = asked().await;
    assert_eq!(
        [of(&miss, "answered outcome=fwd=uri-miss; stored"), of(&miss, "stored"), of(&miss, "run ended")],
        [1, 2, 1]
    );
    let hit = asked().await;
    assert_eq!(hit, ["in none: message=answered outcome=hit; ttl=9"]);
    pass(secs(11)).await;
    origin.next_time(Act::Fail);
    let stale = asked().await;
    assert_eq!([of(&stale, "answered outcome=hit; ttl=-2"), of(&stale, "end=Failed")], [1, 1], "{stale:#?}");
    layer.cache().purge(cacheback::Scope::everything()).await.unwrap();
    assert_eq!(told.take(), ["in none: message=invalidated purged=true entries=1"]);
}

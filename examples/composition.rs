//! Run with `cargo run --example composition`, then try the `curl` lines that it prints.
//!
//! An application with middleware on both sides of the layer, as the guide has it (`cacheback::guide::composition`): what is
//! about a client stands outside and sees every request, what protects a handler stands inside and sees runs alone.

#![allow(clippy::disallowed_methods, reason = "a handler may sleep")]

use std::{
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::Duration,
};

use axum::{
    Router,
    extract::{Extension, Path, Request},
    http::{StatusCode, header},
    middleware::{Next, from_fn},
    response::{IntoResponse, Response},
    routing::get,
};
use cacheback::{Background, Cache, Freshness, Outcome};
use tower::ServiceBuilder;
use tower_http::{
    catch_panic::CatchPanicLayer,
    compression::CompressionLayer,
    cors::{Any, CorsLayer},
    services::ServeDir,
    timeout::TimeoutLayer,
    trace::{DefaultMakeSpan, TraceLayer},
};
use tracing::{Level, Span, info};

/// A user, as a middleware has found out.
#[derive(Clone, Debug)]
struct User(String);

/// How often a handler ran.
fn run() -> u32 {
    static RUNS: AtomicU32 = AtomicU32::new(0);
    RUNS.fetch_add(1, Relaxed) + 1
}

/// Some quotes are slow, one panics, and one never comes.
async fn quote(Path(id): Path<u32>) -> String {
    assert_ne!(id, 0, "there is no such quote");
    tokio::time::sleep(if id == 13 { Duration::MAX } else { Duration::from_millis(500) }).await;
    format!("quote {id}, by run {}\n", run())
}

async fn report() -> String {
    format!("the same report for every member, by run {}\n", run())
}

async fn account(Extension(User(name)): Extension<User>) -> String {
    format!("the account of {name}, by run {}\n", run())
}

/// Everyone with a name is a member. Whoever comes further looks like everybody else who does.
async fn members_only(mut request: Request, next: Next) -> Response {
    match request.headers_mut().remove(header::AUTHORIZATION) {
        Some(_) => next.run(request).await,
        None => StatusCode::UNAUTHORIZED.into_response(),
    }
}

/// Finds out who asks. Here a token is a name; elsewhere it is looked up.
async fn sign_in(mut request: Request, next: Next) -> Response {
    let token = request.headers().get(header::AUTHORIZATION).and_then(|token| token.to_str().ok());
    let Some(name) = token.and_then(|token| token.strip_prefix("Bearer ")).map(str::to_owned) else {
        return StatusCode::UNAUTHORIZED.into_response();
    };
    request.extensions_mut().insert(User(name));
    next.run(request).await
}

/// Logs each run, and whether anybody waits for it.
async fn log_runs(request: Request, next: Next) -> Response {
    let refresh = request.extensions().get::<Background>().is_some();
    info!(refresh, "runs");
    next.run(request).await
}

/// Logs each answer, with what the cache did for it.
fn log_answers<B>(answer: &http::Response<B>, took: Duration, _: &Span) {
    let outcome = answer.extensions().get::<Outcome>().map(ToString::to_string).unwrap_or_default();
    info!(status = answer.status().as_u16(), outcome, ?took, "answers");
}

/// What is served.
pub(crate) fn app(cache: &Cache) -> Router {
    // The same for everybody. A run that takes too long, or panics, has failed: what is stale stands in for it.
    let quotes = Router::new().route("/{id}", get(quote)).layer(
        ServiceBuilder::new()
            .layer(cache.layer(Freshness::new(Duration::from_secs(5))))
            .layer(from_fn(log_runs))
            .layer(TimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, Duration::from_secs(2)))
            .layer(CatchPanicLayer::new()),
    );

    // The same for all members. Who is one is asked at every hit.
    let report = ServiceBuilder::new().layer(from_fn(members_only)).layer(cache.layer(Duration::from_secs(30)));

    // One user's. The user is part of the key.
    let by_user = cache
        .layer(Duration::from_secs(30))
        .key_by(|request| Some(request.extensions.get::<User>()?.0.clone().into_bytes()));
    let account = get(account).layer(ServiceBuilder::new().layer(from_fn(sign_in)).layer(by_user));

    // The pages of the guide. A refresh asks whether the file has changed.
    let pages = ServeDir::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src/guide"));
    let pages = ServiceBuilder::new().layer(cache.layer(Duration::from_secs(60))).service(pages);

    Router::new()
        .nest("/quotes", quotes)
        .nest("/members", Router::new().route("/report", get(self::report)).layer(report))
        .route("/account", account)
        .nest_service("/guide", pages)
        // For every request, hits too.
        .layer(
            ServiceBuilder::new()
                .layer(
                    TraceLayer::new_for_http()
                        .make_span_with(DefaultMakeSpan::new().level(Level::INFO))
                        .on_response(log_answers),
                )
                .layer(CorsLayer::new().allow_origin(Any))
                .layer(CompressionLayer::new()),
        )
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    tracing_subscriber::fmt().with_ansi(false).without_time().init();
    let listener = match tokio::net::TcpListener::bind("127.0.0.1:3000").await {
        Ok(listener) => listener,
        // The port is taken: any other will do.
        Err(_) => tokio::net::TcpListener::bind("127.0.0.1:0").await?,
    };
    let address = listener.local_addr()?;
    println!("Listening on http://{address}. Each answer is logged, and each run of a quote. Try:\n");
    for (curl, what) in [
        ("/quotes/7", "twice: a run, and a hit; after five seconds stale at once, and refreshed"),
        ("/quotes/13", "the timeout stands inside: 504, and nothing is stored"),
        ("/quotes/0", "so does what catches panics: 500"),
        ("/quotes/7 -H 'Origin: https://a.example'", "CORS stands outside: it is said of a hit as well"),
        ("/members/report", "401: the door is outside"),
        ("/members/report -H 'Authorization: Bearer ada'", "twice: members share a page, and each is asked"),
        ("/account -H 'Authorization: Bearer ada'", "twice, and then as bob: a page for each user"),
        ("/guide/composition.md --compressed", "twice: a file, stored plain and coded for each reader"),
        ("/guide/composition.md -r 0-65", "a part of it, out of memory"),
    ] {
        println!("    # {what}\n    curl -i http://{address}{curl}\n");
    }
    axum::serve(listener, app(&Cache::new())).await
}

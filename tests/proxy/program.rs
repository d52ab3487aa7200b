//! The program around it: its command line and its log.

use std::{cell::RefCell, io, time::Duration};

use tracing_subscriber::{filter::Targets, layer::SubscriberExt};

use crate::{
    origin::{Gate, Reply},
    proxy::Options,
    stand::{Stand, request},
};

fn parse(line: &str) -> Result<Option<Options>, String> {
    Options::parse(lexopt::Parser::from_args(line.split_whitespace())).map_err(|error| error.to_string())
}

#[test]
fn what_the_command_line_does_not_say_has_a_default() {
    let options = parse("--origin http://127.0.0.1:8000/").unwrap().unwrap();
    assert_eq!((options.origin.as_str(), options.listen.as_str()), ("127.0.0.1:8000", "127.0.0.1:8080"));
    assert_eq!((options.memory, options.body_cap, options.connections), (64 << 20, None, 4096));
    assert_eq!((options.timeout, options.grace), (Duration::from_secs(60), Duration::from_secs(5)));
    assert!(options.stale_if_error.is_none());
    assert!(!options.honor_request_directives && !options.heuristic && options.targeted.is_none());
}

#[test]
fn what_the_command_line_says_counts() {
    let options = parse(
        "--listen [::1]:80 --origin=http://a.test --memory 1 --body-cap 2 --timeout 3 --grace 4 \
         --connections 6 --honor-request-directives --targeted CDN-Cache-Control,X-Mine --heuristic --stale-if-error 5",
    );
    let options = options.unwrap().unwrap();
    assert_eq!((options.origin.as_str(), options.listen.as_str()), ("a.test", "[::1]:80"));
    assert_eq!((options.memory, options.body_cap, options.connections), (1 << 20, Some(2 << 10), 6));
    assert_eq!((options.timeout, options.grace), (Duration::from_secs(3), Duration::from_secs(4)));
    assert_eq!(options.stale_if_error, Some(Duration::from_secs(5)));
    assert!(options.honor_request_directives && options.heuristic);
    assert_eq!(options.targeted.unwrap(), ["cdn-cache-control", "x-mine"]);
    assert!(parse("--help").unwrap().is_none());
}

#[test]
fn a_command_line_that_cannot_be_meant_is_refused() {
    for line in [
        "",
        "--listen 127.0.0.1:1",
        "--origin https://a.test",
        "--origin a.test",
        "--origin http://a.test/path",
        "--origin http://me@a.test",
        "--origin http://a.test --memory much",
        "--origin http://a.test --memory 99999999999999999999",
        "--origin http://a.test --body-cap 18446744073709551615",
        "--origin http://a.test --connections 0",
        "--origin http://a.test --targeted X,,Y",
        "--origin http://a.test --unknown",
        "--origin http://a.test stray",
    ] {
        assert!(parse(line).is_err(), "{line}");
    }
}

thread_local! {
    /// What this thread has logged. A test has a thread to itself, and all that it serves is on it.
    static LOG: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Writes to the log of its thread.
struct Log;

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LOG.with_borrow_mut(|log| log.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn each_request_is_one_line_of_log_and_says_what_became_of_it() {
    // For all threads: what another one came by first would be off for this one too.
    let lines = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(|| Log);
    let wanted: Targets = "proxy=info".parse().unwrap();
    tracing::subscriber::set_global_default(tracing_subscriber::registry().with(lines).with(wanted)).unwrap();
    tracing::callsite::rebuild_interest_cache();

    let never = Gate::new();
    let stand = Stand::new(move |asked| match asked.path() {
        "/left" => Reply::default().wait(&never),
        _ => Reply::ok("Cache-Control: max-age=60", ""),
    })
    .await;
    stand.get("/page?query", "").await;
    stand.get("/page", "Host: b ad").await;
    stand.get("/page?query", "").await;
    let mut client = stand.connect().await;
    client.send(request("GET", "/left", "", "")).await;
    stand.origin.begun(2).await;
    drop(client);
    stand.quiet().await;
    let text = String::from_utf8(LOG.take()).unwrap();
    let lines: Vec<_> = text.lines().collect();
    let said = [
        "INFO proxy: GET /page 200 (fwd=uri-miss; fwd-status=200; stored) ",
        "INFO proxy: GET /page 400 (-) ",
        "INFO proxy: GET /page 200 (hit; ttl=60) ",
        "INFO proxy: GET /left 499 (-) ",
    ];
    assert_eq!(lines.len(), said.len(), "{text}");
    for (line, said) in lines.into_iter().zip(said) {
        assert!(line.contains(said), "{line}");
    }
}

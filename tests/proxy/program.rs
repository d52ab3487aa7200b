//! The program around it: its command line and its log.

use std::{
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use tracing_subscriber::{Layer as _, filter::Targets, layer::SubscriberExt};

use crate::{origin::Reply, proxy::Options, stand::Stand};

fn parse(line: &str) -> Result<Option<Options>, String> {
    Options::parse(lexopt::Parser::from_args(line.split_whitespace())).map_err(|error| error.to_string())
}

#[test]
fn what_the_command_line_does_not_say_has_a_default() {
    let options = parse("--origin http://127.0.0.1:8000/").unwrap().unwrap();
    assert_eq!((options.origin.as_str(), options.listen.as_str()), ("127.0.0.1:8000", "127.0.0.1:8080"));
    assert_eq!((options.memory, options.body_cap), (64 << 20, None));
    assert_eq!((options.timeout, options.grace), (Duration::from_secs(60), Duration::from_secs(5)));
    assert!(!options.honor_request_directives && !options.heuristic && options.targeted.is_none());
}

#[test]
fn what_the_command_line_says_counts() {
    let options = parse(
        "--listen [::1]:80 --origin=http://a.test --memory 1 --body-cap 2 --timeout 3 --grace 4 \
         --honor-request-directives --targeted CDN-Cache-Control,X-Mine --heuristic",
    );
    let options = options.unwrap().unwrap();
    assert_eq!((options.origin.as_str(), options.listen.as_str()), ("a.test", "[::1]:80"));
    assert_eq!((options.memory, options.body_cap), (1 << 20, Some(2 << 10)));
    assert_eq!((options.timeout, options.grace), (Duration::from_secs(3), Duration::from_secs(4)));
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
        "--origin http://a.test --targeted X,,Y",
        "--origin http://a.test --unknown",
        "--origin http://a.test stray",
    ] {
        assert!(parse(line).is_err(), "{line}");
    }
}

/// What is written to it can be read.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn each_request_is_one_line_of_log_and_says_what_became_of_it() {
    let log = Log::default();
    let lines = tracing_subscriber::fmt::layer().with_ansi(false).with_writer({
        let log = log.clone();
        move || log.clone()
    });
    let wanted: Targets = "proxy=info".parse().unwrap();
    let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(lines.with_filter(wanted)));

    let stand = Stand::new(|_| Reply::ok("Cache-Control: max-age=60", "")).await;
    stand.get("/page?query", "").await;
    stand.get("/page", "Host: b ad").await;
    stand.get("/page?query", "").await;
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let lines: Vec<_> = text.lines().collect();
    let said = [
        "INFO proxy: GET /page 200 (fwd=uri-miss; fwd-status=200; stored) ",
        "INFO proxy: GET /page 400 (-) ",
        "INFO proxy: GET /page 200 (hit; ttl=60) ",
    ];
    assert_eq!(lines.len(), said.len(), "{text}");
    for (line, said) in lines.into_iter().zip(said) {
        assert!(line.contains(said), "{line}");
    }
}

//! How each contender was set, in the words that head its own file.

use std::fmt::Write;

/// A line for each: its name and its settings.
#[must_use]
pub fn all() -> String {
    let mut notes = String::new();
    for (who, source) in SOURCES {
        let _infallible = writeln!(notes, "* {who}: {}", head(source));
    }
    notes
}

const SOURCES: [(&str, &str); 10] = [
    ("one response for everybody", include_str!("contenders/constant.rs")),
    ("the ideal hit", include_str!("contenders/ideal.rs")),
    ("cacheback", include_str!("contenders/cacheback.rs")),
    ("bare handler", include_str!("contenders/bare.rs")),
    ("axum-response-cache", include_str!("contenders/axum_response_cache.rs")),
    ("tower-http-cache", include_str!("contenders/tower_http_cache.rs")),
    ("hitbox", include_str!("contenders/hitbox.rs")),
    ("http-cache-tower-server", include_str!("contenders/http_cache_tower_server.rs")),
    ("nginx", include_str!("../nginx.conf")),
    ("Varnish", include_str!("../default.vcl")),
];

/// The comment that a file begins with, on one line.
fn head(source: &str) -> String {
    let lines = source.lines().map_while(|line| line.strip_prefix("//!").or_else(|| line.strip_prefix('#')));
    lines.map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}

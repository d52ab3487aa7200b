//! How each contender was set, in the words that head its own file.

use std::fmt::Write;

/// A line for each.
#[must_use]
pub fn all() -> String {
    let mut notes = String::new();
    for source in SOURCES {
        let _infallible = writeln!(notes, "* {}", head(source));
    }
    notes
}

const SOURCES: [&str; 10] = [
    include_str!("contenders/constant.rs"),
    include_str!("contenders/ideal.rs"),
    include_str!("contenders/cacheback.rs"),
    include_str!("contenders/bare.rs"),
    include_str!("contenders/axum_response_cache.rs"),
    include_str!("contenders/tower_http_cache.rs"),
    include_str!("contenders/hitbox.rs"),
    include_str!("contenders/http_cache_tower_server.rs"),
    include_str!("../nginx.conf"),
    include_str!("../default.vcl"),
];

/// The comment that a file begins with, on one line.
fn head(source: &str) -> String {
    let lines = source.lines().map_while(|line| line.strip_prefix("//!").or_else(|| line.strip_prefix('#')));
    lines.map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}

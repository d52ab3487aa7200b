//! All figures as one table: a row for each contender, in Markdown.

use std::fmt::Write;

use crate::contenders::{ALL, BARE, IDEAL};

/// Those beside [`ALL`] that are asked over sockets only.
const SERVERS: [&str; 2] = ["nginx", "varnish"];

/// Makes it of lines `who|what|value`. Where there are several values for one thing, it is their median.
#[must_use]
pub fn of(lines: &str) -> String {
    let figures = Figures(lines.lines().filter_map(parse).collect());
    let mut table = String::from(
        "| | fresh hit, ns | × handler | × ideal | instructions | × handler | × ideal | allocations | 64 KiB / 1 KiB \
         | stale hit, ns | instructions | miss, ns | × handler | instructions | × handler | 1,000 readers: runs \
         | p99, ms | hits/s over sockets | × handler | over Redis × raw GET |\n|---|",
    );
    table.push_str(&"--:|".repeat(19));
    table.push('\n');
    for who in ALL.into_iter().chain(SERVERS) {
        let _infallible = writeln!(table, "| {} | {} |", label(who, lines), figures.row(who).join(" | "));
    }
    table
}

/// The middle one.
pub fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn parse(line: &str) -> Option<(&str, &str, f64)> {
    let mut parts = line.split('|');
    Some((parts.next()?, parts.next()?, parts.next()?.parse().ok()?))
}

struct Figures<'a>(Vec<(&'a str, &'a str, f64)>);

impl Figures<'_> {
    fn row(&self, who: &str) -> [String; 19] {
        let net = |what: &str| self.net(who, what);
        let (fresh, stale, miss) = (net("fresh"), net("stale"), net("miss"));
        let instructions = |case: &str| net(&format!("{case} instructions"));
        [
            number(fresh),
            self.ratio(who, "fresh", BARE),
            self.ratio(who, "fresh", IDEAL),
            number(instructions("fresh")),
            self.ratio(who, "fresh instructions", BARE),
            self.ratio(who, "fresh instructions", IDEAL),
            number(net("fresh allocations")),
            of_one(self.net_of(who, "fresh 64", "fresh"), fresh),
            number(stale),
            number(instructions("stale")),
            number(miss),
            self.ratio(who, "miss", BARE),
            number(instructions("miss")),
            self.ratio(who, "miss instructions", BARE),
            number(self.get(who, "runs")),
            number(self.get(who, "p99")),
            number(self.get(who, "sockets")),
            self.ratio(who, "sockets", BARE),
            of_one(self.get(who, "redis"), Some(1.0)),
        ]
    }

    fn get(&self, who: &str, what: &str) -> Option<f64> {
        let mut values: Vec<_> = self.0.iter().filter(|(w, x, _)| (*w, *x) == (who, what)).map(|(.., v)| *v).collect();
        (!values.is_empty()).then(|| median(&mut values))
    }

    /// What it costs by itself: less what making and dropping the request does, where that was measured.
    fn net(&self, who: &str, what: &str) -> Option<f64> {
        // A stale hit's request is a fresh one's.
        self.net_of(who, what, &what.replace("stale", "fresh"))
    }

    fn net_of(&self, who: &str, what: &str, harness: &str) -> Option<f64> {
        Some(self.get(who, what)? - self.get("harness", harness).unwrap_or_default())
    }

    fn ratio(&self, who: &str, what: &str, one: &str) -> String {
        of_one(self.net(who, what), self.net(one, what))
    }
}

fn of_one(value: Option<f64>, one: Option<f64>) -> String {
    value.zip(one).map_or_else(none, |(value, one)| format!("{:.2}", value / one))
}

/// A whole number, its thousands parted.
fn number(value: Option<f64>) -> String {
    let Some(value) = value else { return none() };
    let digits = format!("{value:.0}");
    let parted = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy).collect::<Vec<_>>();
    parted.join(",")
}

fn none() -> String {
    "–".into()
}

/// A contender's name, and the version that was measured: of a crate the one in the lock file, of a server what it said.
fn label(who: &str, lines: &str) -> String {
    let said = format!("{who}|label|");
    if let Some(said) = lines.lines().find_map(|line| line.strip_prefix(&said)) {
        return said.into();
    }
    let version = |name: &str| {
        let name = format!("name = \"{name}\"\nversion = \"");
        let rest = include_str!("../Cargo.lock").split_once(&name).map_or("", |(_, rest)| rest);
        rest.split('"').next().unwrap_or_default()
    };
    match who {
        "constant" => format!("one response for everybody (hyper {})", version("hyper")),
        "ideal" => "the ideal hit".into(),
        "bare" => format!("bare handler (axum {})", version("axum")),
        "cacheback" => "**cacheback**".into(),
        "hitbox-bincode" => format!("hitbox {}, Moka, bincode", version("hitbox")),
        "hitbox-json" => format!("hitbox {}, Moka, JSON", version("hitbox")),
        "http-cache-tower-server" => format!("{who} {}, Moka", version(who)),
        _ => format!("{who} {}", version(who)),
    }
}

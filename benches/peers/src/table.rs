//! All figures as one table: a row for each contender, in Markdown.

use std::fmt::Write;

use crate::contenders::{ALL, BARE, IDEAL};

/// Those beside [`ALL`] that are asked over sockets only.
const SERVERS: [&str; 4] = ["nginx", "nginx-sendfile", "varnish", "varnish-default"];

/// The columns, each with what stands behind its figures in brackets.
const COLUMNS: [&str; 11] = [
    "fresh hit: ns (× handler, × ideal)",
    "instructions (× handler, × ideal)",
    "allocations",
    "64 KiB instead of 1 KiB: ×",
    "stale hit: ns (× fresh)",
    "instructions (× fresh)",
    "miss: ns (× handler)",
    "instructions (× handler)",
    "1,000 readers of a cold key: runs, p99 in ms",
    "over sockets: hits/s (× handler)",
    "over Redis: × raw GETs",
];

/// Makes it of lines `who|what|value`. Where there are several values for one thing, it is their median.
#[must_use]
pub fn of(lines: &str) -> String {
    let figures = Figures(lines.lines().filter_map(parse).collect());
    let mut table = format!("| | {} |\n|---|{}\n", COLUMNS.join(" | "), "--:|".repeat(COLUMNS.len()));
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
    fn row(&self, who: &str) -> [String; COLUMNS.len()] {
        let both =
            |what: &str| beside(self.net(who, what), [self.ratio(who, what, BARE), self.ratio(who, what, IDEAL)]);
        let to_handler = |what: &str| beside(self.net(who, what), [self.ratio(who, what, BARE)]);
        let to_fresh =
            |what: &str, fresh| beside(self.net(who, what), [over(self.net(who, what), self.net(who, fresh))]);
        let crowd = [self.get(who, "runs"), self.get(who, "p99")];
        [
            both("fresh"),
            both("fresh instructions"),
            number(self.net(who, "fresh allocations")),
            ratio(over(self.net_of(who, "fresh 64", "fresh"), self.net(who, "fresh"))),
            to_fresh("stale", "fresh"),
            to_fresh("stale instructions", "fresh instructions"),
            to_handler("miss"),
            to_handler("miss instructions"),
            if crowd[0].is_some() { crowd.map(number).join(", ") } else { none() },
            beside(self.get(who, "sockets"), [self.ratio_of_rounds(who, "sockets", BARE)]),
            ratio(self.get(who, "redis")),
        ]
    }

    fn all(&self, who: &str, what: &str) -> Vec<f64> {
        self.0.iter().filter(|(w, x, _)| (*w, *x) == (who, what)).map(|(.., value)| *value).collect()
    }

    fn get(&self, who: &str, what: &str) -> Option<f64> {
        let mut values = self.all(who, what);
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

    fn ratio(&self, who: &str, what: &str, one: &str) -> Option<f64> {
        over(self.net(who, what), self.net(one, what))
    }

    /// The median of the rounds' ratios: a machine that is slower for a while is so for both.
    fn ratio_of_rounds(&self, who: &str, what: &str, one: &str) -> Option<f64> {
        let (values, ones) = (self.all(who, what), self.all(one, what));
        let mut ratios: Vec<_> = values.iter().zip(ones).map(|(value, one)| value / one).collect();
        (!ratios.is_empty()).then(|| median(&mut ratios))
    }
}

fn over(value: Option<f64>, one: Option<f64>) -> Option<f64> {
    Some(value? / one?)
}

/// A figure, and what it is of others.
fn beside<const N: usize>(value: Option<f64>, ratios: [Option<f64>; N]) -> String {
    match value {
        Some(_) => format!("{} ({})", number(value), ratios.map(ratio).join(", ")),
        None => none(),
    }
}

fn ratio(value: Option<f64>) -> String {
    value.map_or_else(none, |value| if value < 10.0 { format!("{value:.2}") } else { format!("{value:.0}") })
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
        "hitbox-bincode" => format!("hitbox {}, bincode", version("hitbox")),
        "hitbox-json" => format!("hitbox {}, JSON", version("hitbox")),
        "http-cache-tower-server" => format!("{who} {}", version(who)),
        _ => format!("{who} {}", version(who)),
    }
}

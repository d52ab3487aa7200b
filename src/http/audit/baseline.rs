//! What runs of one request agree in: counters, clocks and ids that change by themselves are left out of a comparison.
//!
//! A text is cut into words (letters, digits, `-` and `_`, so that an id is one) and what stands between them. Where runs
//! of the unchanged request have other words at one place, that place is open: anything may stand there. If they differ in
//! the number of words nothing can be said of the text.

use std::{collections::BTreeMap, fmt};

use bytes::Bytes;
use http::{StatusCode, header::DATE};

use crate::http::stored::StoredResponse;

/// A response as it would be stored: its head, and all of it if all of it was there to be read.
#[derive(Clone, Copy)]
pub(crate) struct Answer<'a> {
    pub(crate) head: &'a StoredResponse,
    pub(crate) whole: Option<&'a StoredResponse>,
}

/// What the runs of one request agree in.
#[derive(Debug)]
pub(crate) struct Baseline {
    /// Of all runs, if they agree in it.
    status: Option<StatusCode>,
    fields: BTreeMap<Field, Text>,
    body: Text,
}

/// A part of a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Body,
    Status,
    Field(Field),
}

/// A field of a response, in its head or behind its body.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Field {
    Header(Box<str>),
    Trailer(Box<str>),
}

/// A text of which some words are open.
#[derive(Debug)]
struct Text {
    text: Bytes,
    open: Vec<bool>,
    /// Whether its words can be told apart by their places.
    steady: bool,
}

impl Baseline {
    pub(crate) fn of(answer: Answer<'_>) -> Self {
        let fields = answer.fields().into_iter().map(|(field, text)| (field, Text::new(text))).collect();
        Self { status: Some(answer.head.status()), fields, body: Text::new(answer.body()) }
    }

    /// Takes in one more run. Whether it is one: with another status it is something else.
    pub(crate) fn widen(&mut self, answer: Answer<'_>) -> bool {
        let mut theirs = answer.fields();
        for (field, text) in &mut self.fields {
            match theirs.remove(field) {
                Some(other) => text.widen(&other),
                None => text.steady = false,
            }
        }
        self.fields.extend(theirs.into_iter().map(|(field, text)| (field, Text::unsteady(text))));
        self.body.widen(&answer.body());
        self.status = self.status.filter(|status| *status == answer.head.status());
        self.status.is_some()
    }

    /// Which part of a response is one that no run of the unchanged request would give.
    pub(crate) fn differs(&self, answer: Answer<'_>) -> Option<Part> {
        if self.body.steady && (answer.whole.is_none() || self.body.differs(&answer.body())) {
            return Some(Part::Body);
        }
        if self.status.is_some_and(|status| status != answer.head.status()) {
            return Some(Part::Status);
        }
        let mut theirs = answer.fields();
        let changed = self.fields.iter().find(|(field, text)| match theirs.remove(*field) {
            Some(other) => text.differs(&other),
            None => text.steady,
        });
        changed.map(|(field, _)| field.clone()).or_else(|| theirs.into_keys().next()).map(Part::Field)
    }

    /// Whether there is something in the body to hold on to.
    pub(crate) fn is_steady(&self) -> bool {
        self.body.steady && !self.body.is_open()
    }
}

impl Answer<'_> {
    fn body(&self) -> Bytes {
        self.whole.map(StoredResponse::content).cloned().unwrap_or_default()
    }

    /// All fields, their lines as one text, less the one that says when a response was made.
    fn fields(&self) -> BTreeMap<Field, Bytes> {
        let headers = self.head.fields().filter(|(name, _)| **name != DATE);
        let headers = headers.map(|(name, line)| (Field::Header(name.as_str().into()), line));
        let trailers = self.whole.and_then(StoredResponse::trailers).into_iter().flatten();
        let trailers = trailers.map(|(name, line)| (Field::Trailer(name.as_str().into()), line));
        let mut texts: BTreeMap<_, Vec<u8>> = BTreeMap::new();
        for (field, line) in headers.chain(trailers) {
            let text = texts.entry(field).or_default();
            text.extend_from_slice(line.as_bytes());
            text.push(b'\n');
        }
        texts.into_iter().map(|(field, text)| (field, text.into())).collect()
    }
}

impl Text {
    fn new(text: Bytes) -> Self {
        Self { open: vec![false; words(&text).count()], text, steady: true }
    }

    /// A text that is not in every run.
    fn unsteady(text: Bytes) -> Self {
        Self { steady: false, ..Self::new(text) }
    }

    fn widen(&mut self, other: &[u8]) {
        self.steady &= words(other).count() == self.open.len();
        for (open, (word, other)) in self.open.iter_mut().zip(words(&self.text).zip(words(other))) {
            *open |= word != other;
        }
    }

    fn differs(&self, other: &[u8]) -> bool {
        let places = self.open.iter().zip(words(&self.text).zip(words(other)));
        self.steady
            && (words(other).count() != self.open.len()
                || places.into_iter().any(|(open, (word, other))| !open && word != other))
    }

    /// Whether there are words, and anything may stand for each of them.
    fn is_open(&self) -> bool {
        let mut words = self.open.iter().zip(words(&self.text)).filter(|(_, word)| is_letter(word[0])).peekable();
        words.peek().is_some() && words.all(|(open, _)| *open)
    }
}

/// Words, and what stands between them, in turn.
fn words(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.chunk_by(|one, next| is_letter(*one) == is_letter(*next))
}

fn is_letter(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_') || !byte.is_ascii()
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Body => f.write_str("the body"),
            Self::Status => f.write_str("the status"),
            Self::Field(Field::Header(name)) => write!(f, "the header `{name}`"),
            Self::Field(Field::Trailer(name)) => write!(f, "the trailer `{name}`"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a text differs from what all of the runs had in common.
    fn differs(runs: &[&'static str], other: &str) -> bool {
        let mut text = Text::new(Bytes::from(runs[0]));
        runs[1..].iter().for_each(|run| text.widen(run.as_bytes()));
        text.differs(other.as_bytes())
    }

    #[test] // P68
    fn words_that_change_by_themselves_make_no_difference_and_all_others_do() {
        for (runs, same, other) in [
            (&["plain"][..], "plain", "other"),
            (&["run 9 of /x", "run 10 of /x"], "run 11 of /x", "run 11 of /y"),
            (&["<p id=a1>Hallo</p>", "<p id=b2>Hallo</p>"], "<p id=c3>Hallo</p>", "<p id=c3>Bonjour</p>"),
            (&["id V1StGXR8_Z5jdHi6B-myT", "id 3-u_x"], "id Uakgb_J5m9g-0JDMbcJqL", "no Uakgb_J5m9g-0JDMbcJqL"),
            (&["12:00:01", "12:00:02"], "12:00:59", "12:00-59"),
            (&["grüße 1", "grüße 2"], "grüße 3", "grüne 3"),
            (&["a 1 b 1", "a 2 b 1", "a 2 b 2"], "a 7 b 7", "a 7 c 7"),
        ] {
            assert!(!differs(runs, same), "{runs:?} {same}");
            assert!(differs(runs, other), "{runs:?} {other}");
        }
        assert!(differs(&["one"], ""));
        assert!(differs(&[""], "one"));
        assert!(differs(&["one"], "one two"));
    }

    #[test] // P68
    fn of_a_text_with_another_number_of_words_each_time_nothing_is_said() {
        assert!(!differs(&["one", "one two"], "three"));
        assert!(!differs(&["one", "one two", "one"], "three"));
    }

    #[test] // P68
    fn a_text_of_which_no_word_stays_gives_nothing_to_hold_on_to() {
        let text = |runs: &[&'static str]| {
            let mut text = Text::new(Bytes::from(runs[0]));
            runs[1..].iter().for_each(|run| text.widen(run.as_bytes()));
            text.is_open()
        };
        assert!(text(&["1", "2"]));
        assert!(text(&["1: 5", "2: 6"]));
        assert!(!text(&["1 is 5", "2 is 6"]));
        assert!(!text(&["same", "same"]));
        assert!(!text(&["", ""]), "no body is the same body");
    }
}

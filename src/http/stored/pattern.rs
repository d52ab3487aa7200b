//! The fields of a stored response, in a map of their exact size that is made after the pattern of another one.
//!
//! Building a map of fields takes a hash, a search and a move for each of them, and in the end a clone of it all: what was
//! built has room for more. But responses of one kind have the same fields in the same order. So each thread remembers the
//! maps of a few that it has stored lately, with those values that many responses have (see `known`) and without the rest:
//! a clone of such a map has the size and the names already, and most of the values.

use std::cell::RefCell;

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{self, AGE},
};

use crate::{
    http::{
        known,
        stored::{CACHE_STATUS, PLACES, copy, fitted, number},
    },
    room::Room,
};

/// How many patterns a thread remembers.
const REMEMBERED: usize = 16;
/// How many lines of fields a response has at most whose pattern is remembered.
const LONGEST: usize = 32;
/// How many letters the names of its fields have at most, all together: they are kept for as long as it is remembered.
const LETTERS: usize = 1_024;

const EMPTY: HeaderValue = HeaderValue::from_static("");

/// Copies of fields, after the places for `Age` and `Cache-Status`. The lines of a field stand together, as in any map. Their
/// values may be slices of a connection's read buffer, which a stored slice would keep alive: those that are not known are
/// parts of one allocation of their exact size; and so is what follows them, a copy of the body.
pub(super) fn copied(fields: &[(&HeaderName, &HeaderValue)], body: &[u8]) -> (HeaderMap, Bytes) {
    thread_local! {
        static PATTERNS: RefCell<[Option<HeaderMap>; REMEMBERED]> =
            const { RefCell::new([const { None }; REMEMBERED]) };
    }
    let remembered = PATTERNS.try_with(|patterns| {
        let mut patterns = patterns.try_borrow_mut().ok().filter(|_| fields.len() <= LONGEST)?;
        let letters: usize = fields.iter().map(|(name, _)| name.as_str().len()).sum();
        let pattern = patterns.get_mut(letters % REMEMBERED).filter(|_| letters <= LETTERS)?.get_or_insert_default();
        copied_after(pattern, fields, body)
    });
    remembered.ok().flatten().unwrap_or_else(|| line_by_line(fields, body))
}

/// The same without a pattern.
fn line_by_line(fields: &[(&HeaderName, &HeaderValue)], body: &[u8]) -> (HeaderMap, Bytes) {
    let mut headers = places(fields);
    copy(fields, &mut headers);
    (fitted(&headers), Bytes::copy_from_slice(body))
}

/// A map that has room for these, and in it the places.
fn places(fields: &[(&HeaderName, &HeaderValue)]) -> HeaderMap {
    let further = fields.windows(2).filter(|lines| lines[0].0 == lines[1].0).count();
    let mut places = HeaderMap::with_capacity(PLACES + fields.len() - further);
    places.insert(AGE, HeaderValue::from_static("0"));
    places.insert(CACHE_STATUS, EMPTY);
    places
}

/// A map with these names, in which no place has its value.
fn built(fields: &[(&HeaderName, &HeaderValue)]) -> HeaderMap {
    let mut pattern = places(fields);
    for (name, _) in fields {
        // Many responses will have it: one that is never freed counts no readers.
        pattern.append(known::name(name).unwrap_or_else(|| (*name).clone()), EMPTY);
    }
    pattern
}

/// A value that is there already, and needs no copy: it is known, or a length that is written for ages as well.
pub(super) fn shared(name: &HeaderName, value: &HeaderValue) -> Option<HeaderValue> {
    if value.is_sensitive() {
        return None;
    }
    match *name {
        header::CONTENT_LENGTH if value.len() > 4 => None,
        header::CONTENT_LENGTH => value.to_str().ok()?.parse().ok().map(number).filter(|written| written == value),
        _ => known::value(name, value),
    }
}

/// A clone of a pattern, with these values; and the body. A pattern with other names is built anew. `None` where the lines of
/// a field do not stand together, or are in the places.
fn copied_after(
    pattern: &mut HeaderMap,
    fields: &[(&HeaderName, &HeaderValue)],
    body: &[u8],
) -> Option<(HeaderMap, Bytes)> {
    let mut own = Room::<512>::default();
    if !fits(pattern, fields, &mut own) {
        *pattern = built(fields);
        own.clear();
        if !fits(pattern, fields, &mut own) {
            return None;
        }
    }
    let mut bytes = Vec::with_capacity(own.as_slice().len() + body.len());
    bytes.extend_from_slice(own.as_slice());
    bytes.extend_from_slice(body);
    let (mut bytes, mut copies) = (Bytes::from(bytes), pattern.clone());
    for (place, (_, value)) in copies.values_mut().skip(PLACES).zip(fields) {
        if place.is_empty() {
            let copy = HeaderValue::from_maybe_shared(bytes.split_to(value.len()));
            *place = copy.unwrap_or_else(|_| (*value).clone());
            place.set_sensitive(value.is_sensitive());
        }
    }
    Some((copies, bytes))
}

/// Puts into a pattern those of these values that need no copy, and nothing in the place of the others, which are written
/// down: whether it has the names of these fields.
fn fits(pattern: &mut HeaderMap, fields: &[(&HeaderName, &HeaderValue)], own: &mut Room<512>) -> bool {
    let lines = pattern.len();
    let mut places = pattern.iter_mut().skip(PLACES).zip(fields);
    lines == PLACES + fields.len()
        && places.all(|((of, place), (name, value))| {
            // What stands there needs no copy, or is nothing.
            if *place != **value || value.is_sensitive() {
                *place = shared(name, value).unwrap_or(EMPTY);
                if place.is_empty() {
                    own.extend(value.as_bytes());
                }
            }
            of == *name
        })
}

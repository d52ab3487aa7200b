//! A stored HTTP response, ready to be given out.
//!
//! What does not change from one hit to the next is done when the response is stored. Its fields begin with two places,
//! for `Age` and for `Cache-Status`; a hit clones the map and writes these two, with no look-up by name.

use std::fmt;

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Response, StatusCode,
    header::{self, AGE},
    response::Parts,
};
use smallvec::SmallVec;

use crate::{
    clock,
    entry::Fields,
    http::{
        body::Body,
        conditional::is_same_tag,
        content_length, etag,
        targeted::OWN,
        unstored::{Omitted, is_among},
        validation::Validators,
    },
};

mod giving;
mod packed;
mod pattern;
mod storing;

pub(crate) use giving::{Reuse, age_value, announce, deliver, without_content};
pub(crate) use packed::Packed;
pub(crate) use storing::{Storing, capture, whole};

/// A response as an HTTP layer stores it: status, fields, body and trailers.
pub struct StoredResponse {
    status: StatusCode,
    /// Begins with the places for `Age` and `Cache-Status`, whatever the layer that stores it calls itself: another layer
    /// of its cache may give it out.
    headers: HeaderMap,
    body: Bytes,
    beside: Option<Box<Beside>>,
    /// Whether its entity tag is ours: the service knows nothing of it.
    tagged: bool,
    /// Whether its maps have no room for more than what they hold.
    fits: bool,
    /// Whether a field of it says how long it is fresh, or could.
    is_dated: bool,
}

/// What few responses have.
#[derive(Clone, Default)]
struct Beside {
    trailers: Option<HeaderMap>,
    /// What caches further in said in `Cache-Status`: ours comes after it.
    said: Box<[u8]>,
    /// What the service said to this cache alone, for a layer further out that stores the response as well.
    own: Box<[HeaderValue]>,
}

pub(crate) const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// The places at the head of the map.
const PLACES: usize = 2;

/// Fields that are to be stored.
type Kept<'a> = SmallVec<[(&'a HeaderName, &'a HeaderValue); 16]>;

impl StoredResponse {
    /// Its status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// Its fields, without those that are written anew for each reader (`Age`, `Cache-Status`).
    pub fn fields(&self) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
        self.headers.iter().skip(PLACES)
    }

    /// Its body.
    #[must_use]
    pub fn content(&self) -> &Bytes {
        &self.body
    }

    /// What is stored of a response with this head, as yet without its body.
    pub(crate) fn new(head: &Parts, omitted: &Omitted) -> Self {
        let mut headers = HeaderMap::with_capacity(head.headers.keys_len() + PLACES + 1);
        headers.insert(AGE, HeaderValue::from_static("0"));
        headers.insert(CACHE_STATUS, HeaderValue::from_static(""));
        let (kept, said, own) = sorted(head, omitted);
        copy(&kept, &mut headers);
        let beside = Beside::of(None, said, own);
        Self {
            status: head.status,
            headers,
            body: Bytes::new(),
            beside,
            tagged: false,
            fits: false,
            is_dated: is_dated(&head.headers),
        }
    }

    /// What is stored of a response with this head and a body that has come in one piece.
    pub(crate) fn whole(head: &Parts, body: &Bytes, omitted: &Omitted, etag: bool) -> Self {
        let (status, length) = (head.status, number(body.len() as u64));
        let (mut kept, said, own) = sorted(head, omitted);
        if has_content(status) {
            kept.push((&header::CONTENT_LENGTH, &length));
        }
        let (headers, body) = pattern::copied(&kept, body);
        let (beside, is_dated) = (Beside::of(None, said, own), is_dated(&head.headers));
        let whole = Self { status, headers, body, beside, tagged: false, fits: true, is_dated };
        if etag { whole.tag() } else { whole }
    }

    /// Its fields, and the places at the head of them.
    pub(crate) fn head(&self) -> &HeaderMap {
        &self.headers
    }

    /// The same, of one that is of no use any more.
    pub(crate) fn take_head(&mut self) -> HeaderMap {
        std::mem::take(&mut self.headers)
    }

    /// The same with other fields: the places at the head of the map are kept.
    pub(crate) fn with_fields(&self, fields: &[(&HeaderName, &HeaderValue)]) -> Self {
        // A body that came with fields is a part of what holds them: one that is not much longer would keep as much again.
        let of_fields: usize = self.headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        let moves = self.body.len() < 8 * of_fields;
        let (headers, copy) = pattern::copied(fields, if moves { &self.body } else { b"" });
        Self {
            status: self.status,
            tagged: self.tagged && headers.get(header::ETAG) == self.headers.get(header::ETAG),
            is_dated: is_dated(&headers),
            headers,
            body: if moves { copy } else { self.body.clone() },
            beside: self.beside.clone(),
            fits: true,
        }
    }

    /// The same without what it withholds.
    pub(crate) fn without(self, withheld: Option<&Fields>) -> Self {
        if withheld.is_none() {
            return self;
        }
        let fields: Vec<_> = self.fields().filter(|(name, _)| !is_among(withheld, name)).collect();
        let mut left = self.with_fields(&fields);
        if let Some(trailers) = left.beside.as_mut().and_then(|beside| beside.trailers.as_mut()) {
            let gone: Vec<_> = trailers.keys().filter(|name| is_among(withheld, name)).cloned().collect();
            gone.iter().for_each(|name| drop(trailers.remove(name)));
        }
        left
    }

    /// What the service said to this cache alone.
    pub(crate) fn own(&self) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
        self.own_lines().iter().map(|line| (OWN, line.clone()))
    }

    fn own_lines(&self) -> &[HeaderValue] {
        self.beside.as_ref().map_or(&[], |beside| &beside.own)
    }

    fn said(&self) -> &[u8] {
        self.beside.as_ref().map_or(&[], |beside| &beside.said)
    }

    /// The same, with what was said to another beside its fields, where anything was.
    pub(crate) fn having_heard(mut self, other: Self) -> Self {
        if let Some(Beside { said, own, .. }) = other.beside.map(|beside| *beside) {
            let beside = self.beside.get_or_insert_default();
            if !own.is_empty() {
                beside.own = own;
            }
            if !said.is_empty() {
                beside.said = said;
            }
        }
        self
    }

    /// The response for the one who leads.
    pub(crate) fn response<B: http_body::Body>(&self) -> Response<Body<B>> {
        let mut response = Response::new(self.body());
        *response.status_mut() = self.status;
        response.headers_mut().extend(self.fields().map(|(name, value)| (name.clone(), value.clone())));
        response.headers_mut().extend(self.own());
        if let Ok(said) = HeaderValue::from_bytes(self.said())
            && !said.is_empty()
        {
            response.headers_mut().append(CACHE_STATUS, said);
        }
        response
    }

    /// Adds the body. Its length is stated from now on, unless trailers follow it.
    pub(crate) fn complete(mut self, body: Bytes, trailers: Option<HeaderMap>, omitted: &Omitted) -> Self {
        if trailers.is_none() && has_content(self.status) {
            self.headers.insert(header::CONTENT_LENGTH, number(body.len() as u64));
        }
        self.headers = fitted(&self.headers);
        self.fits = true;
        self.body = body;
        if let Some(trailers) = trailers {
            let mut copies = HeaderMap::with_capacity(trailers.keys_len());
            copy(&trailers.iter().filter(|(name, _)| omitted.keeps_trailer(name)).collect::<Vec<_>>(), &mut copies);
            self.beside.get_or_insert_default().trailers = Some(fitted(&copies));
        }
        self
    }

    /// Gives it an entity tag, if it has none and there is a use for one.
    fn tag(mut self) -> Self {
        if self.status == StatusCode::OK && !self.headers.contains_key(header::ETAG) {
            self.headers.insert(header::ETAG, etag::of(&self.body, &self.headers));
            self.headers = fitted(&self.headers);
            self.tagged = true;
        }
        self
    }

    /// The entity tag that the service did not give it.
    pub(crate) fn own_etag(&self) -> Option<&HeaderValue> {
        if self.tagged { self.headers.get(header::ETAG) } else { None }
    }

    /// What the service can be asked by whether this is still what it would answer. Of a tag of ours it knows nothing.
    pub(crate) fn validators(&self) -> Validators<'_> {
        let validators = Validators::of(self.status, &self.headers);
        if self.tagged { validators.without_tag() } else { validators }
    }

    /// Whether the head of a 200 is not that of this response any more, by its validators and the length that it states
    /// (RFC 9111 §4.3.5).
    pub(crate) fn is_contradicted_by(&self, status: StatusCode, head: &HeaderMap) -> bool {
        let another = |name: &HeaderName, same: fn(&HeaderValue, &HeaderValue) -> bool| {
            head.get(name).is_some_and(|told| !self.headers.get(name).is_some_and(|kept| same(told, kept)))
        };
        let length = content_length(head).is_some_and(|length| length != self.body.len() as u64);
        status == StatusCode::OK
            && self.status == StatusCode::OK
            && (length || another(&header::ETAG, is_same_tag) || another(&header::LAST_MODIFIED, PartialEq::eq))
    }

    /// The body for a reader: shared, not copied.
    pub(crate) fn body<B: http_body::Body>(&self) -> Body<B> {
        Body::whole(self.body.clone(), self.trailers().cloned())
    }

    pub(crate) fn trailers(&self) -> Option<&HeaderMap> {
        self.beside.as_ref()?.trailers.as_ref()
    }

    /// What the response takes in memory.
    pub(crate) fn weight(&self) -> usize {
        let map = |headers: &HeaderMap| {
            let values: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
            // The second line of a field and those after it lie in a list of their own.
            let more = headers.len() - headers.keys_len();
            // A name that is none of the standard ones has a count of readers. Those of ours are standard.
            let counts = headers.keys_len().saturating_sub(PLACES + 1) * 24;
            let places = if self.fits { headers.keys_len() } else { headers.capacity() };
            values + places * 104 + counts + headers.capacity() * 6 + more * 72
        };
        // Values and body have a count of readers each.
        let line = |line: &HeaderValue| size_of::<HeaderValue>() + line.len() + 24;
        let beside = self.beside.as_deref().map_or(0, |Beside { trailers, said, own }| {
            size_of::<Beside>() + trailers.as_ref().map_or(0, map) + said.len() + own.iter().map(line).sum::<usize>()
        });
        size_of::<Self>() + map(&self.headers) + self.body.len() + beside + 2 * 24
    }
}

impl Beside {
    /// `None` of nothing.
    fn of(trailers: Option<HeaderMap>, said: Vec<u8>, own: Vec<HeaderValue>) -> Option<Box<Self>> {
        let nothing = trailers.is_none() && said.is_empty() && own.is_empty();
        (!nothing).then(|| Box::new(Self { trailers, said: said.into(), own: own.into() }))
    }
}

impl fmt::Debug for StoredResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredResponse").field("status", &self.status).field("bytes", &self.body.len()).finish()
    }
}

/// The same fields in a map that has no room for more: one that has grown has room for half as many again.
fn fitted(fields: &HeaderMap) -> HeaderMap {
    fields.clone()
}

/// The fields of a head that are stored as such; what caches further in have said; and what the service said to this cache
/// alone.
fn sorted<'a>(head: &'a Parts, omitted: &Omitted) -> (Kept<'a>, Vec<u8>, Vec<HeaderValue>) {
    let (mut kept, mut said, mut own) = (Kept::new(), Vec::new(), Vec::new());
    for (name, value) in &head.headers {
        if omitted.keeps(name) {
            kept.push((name, value));
        } else if *name == CACHE_STATUS && !value.as_bytes().trim_ascii().is_empty() {
            said.push(value.as_bytes().trim_ascii());
        } else if *name == OWN && omitted.reads_own() {
            own.push(exact_copy(value));
        }
    }
    (kept, said.join(&b", "[..]), own)
}

/// A copy of its exact size, for the same reason as those below.
fn exact_copy(value: &HeaderValue) -> HeaderValue {
    HeaderValue::from_bytes(value.as_bytes()).unwrap_or_else(|_| value.clone())
}

/// Appends copies of fields. Their values may be slices of a connection's read buffer, which a stored slice would keep
/// alive: they are copied, all that are not `known` into one allocation of their exact size.
fn copy(fields: &[(&HeaderName, &HeaderValue)], to: &mut HeaderMap) {
    let known: Vec<_> = fields.iter().map(|(name, value)| pattern::shared(name, value)).collect();
    let own = || fields.iter().zip(&known).filter(|(_, known)| known.is_none()).map(|((_, value), _)| value.as_bytes());
    let mut bytes = Vec::with_capacity(own().map(<[u8]>::len).sum());
    own().for_each(|value| bytes.extend_from_slice(value));
    let mut own = Bytes::from(bytes);
    for ((name, value), known) in fields.iter().zip(known) {
        let copy = known.unwrap_or_else(|| {
            let copy = HeaderValue::from_maybe_shared(own.split_to(value.len()));
            let mut copy = copy.unwrap_or_else(|_| (*value).clone());
            copy.set_sensitive(value.is_sensitive());
            copy
        });
        to.append((*name).clone(), copy);
    }
}

/// A number. Those below ten thousand are written already: a hit allocates none.
fn number(number: u64) -> HeaderValue {
    static WRITTEN: [[u8; 4]; 10_000] = {
        let mut written = [[0; 4]; 10_000];
        let mut number = 0;
        while number < written.len() {
            let (mut place, mut rest) = (4, number);
            while place > 0 {
                place -= 1;
                written[number][place] = b'0' + (rest % 10) as u8;
                rest /= 10;
            }
            number += 1;
        }
        written
    };
    let zeros = match number {
        0..10 => 3,
        10..100 => 2,
        100..1_000 => 1,
        _ => 0,
    };
    let written = usize::try_from(number).ok().and_then(|at| WRITTEN.get(at));
    match written.and_then(|digits| std::str::from_utf8(&digits[zeros..]).ok()) {
        Some(digits) => HeaderValue::from_static(digits),
        None => HeaderValue::from(number),
    }
}

/// Whether there is a field that may have to go or to change once the response is stale.
fn is_dated(headers: &HeaderMap) -> bool {
    headers.keys().any(|name| *name == header::CACHE_CONTROL || *name == header::EXPIRES)
}

/// The value of `Date` at this moment.
pub(crate) fn date() -> HeaderValue {
    HeaderValue::from_str(&httpdate::fmt_http_date(clock::wall())).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// Whether a response with this status has content whose length can be stated (RFC 9110 §8.6).
fn has_content(status: StatusCode) -> bool {
    !status.is_informational() && status != StatusCode::NO_CONTENT && status != StatusCode::NOT_MODIFIED
}

#[cfg(test)]
mod tests;

//! The answer to a `Range`: parts of a 200, as 206, or 416 where none of them is there (RFC 9110 §14, §15.3.7, §15.5.17).
//!
//! A 200 is cut where its length is known, from the store or on its way there. Who asks for several parts of what is
//! still on its way gets the whole, which §14.2 permits: parts are sent in the order in which they were asked for, and the
//! first of them may come last. Nothing is copied.

use std::{
    collections::VecDeque,
    hash::{BuildHasher, Hasher, RandomState},
};

use bytes::Bytes;
use http::{
    HeaderName, HeaderValue, Response, StatusCode,
    header::{
        CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, EXPIRES,
        LAST_MODIFIED, TRAILER, TRANSFER_ENCODING,
    },
};

use super::{
    body::Body,
    content_length,
    range::{Ranges, Selected, Span},
};

/// A hash of the content of this very message (RFC 9530 §2).
pub(crate) const CONTENT_DIGEST: HeaderName = HeaderName::from_static("content-digest");

/// What the head of a part takes, less its `Content-Type`, roughly: a boundary, a `Content-Range`, the ends of lines.
const PART_HEAD: usize = 96;

/// Answers a request for parts from the 200 that it would get without its `Range`.
pub(crate) fn answer<B: http_body::Body>(response: Response<Body<B>>, ranges: &Ranges) -> Response<Body<B>> {
    let length = response.body().length().or_else(|| content_length(response.headers()));
    let Some(length) = length.filter(|_| ranges.apply_to(response.headers())) else { return response };
    let kind = response.headers().get(CONTENT_TYPE).map_or(0, HeaderValue::len);
    match ranges.of(length, (PART_HEAD + kind) as u64) {
        Selected::Whole => response,
        Selected::Unsatisfiable => unsatisfiable(response, length),
        Selected::Parts(parts) => match parts[..] {
            [span] => partial(single(response, span, length), ranges),
            _ => match Multipart::of(&response, &parts, length) {
                Some(multipart) => partial(multipart.answer(response), ranges),
                None => response,
            },
        },
    }
}

/// One part: the content is that (§15.3.7.1).
fn single<B: http_body::Body>(response: Response<Body<B>>, span: Span, length: u64) -> Response<Body<B>> {
    let (mut head, body) = response.into_parts();
    head.headers.insert(CONTENT_RANGE, value(format!("bytes {}-{}/{length}", span.first, span.last)));
    head.headers.insert(CONTENT_LENGTH, HeaderValue::from(span.length()));
    Response::from_parts(head, body.part(span.first, span.length()))
}

/// Several parts, each with a head of its own (§15.3.7.2).
struct Multipart {
    boundary: String,
    chunks: VecDeque<Bytes>,
}

impl Multipart {
    /// The parts of a response that is all there. None where it is coded: nobody could tell whether it is the parts that
    /// are, or what holds them together.
    fn of<B: http_body::Body>(response: &Response<Body<B>>, parts: &[Span], length: u64) -> Option<Self> {
        let data = response.body().data().filter(|_| !response.headers().contains_key(CONTENT_ENCODING))?;
        let (boundary, kind) = (boundary(), response.headers().get(CONTENT_TYPE));
        let mut chunks = VecDeque::with_capacity(parts.len() * 2 + 1);
        for span in parts {
            let mut head = format!("\r\n--{boundary}\r\n").into_bytes();
            if let Some(kind) = kind {
                head.extend_from_slice(b"Content-Type: ");
                head.extend_from_slice(kind.as_bytes());
                head.extend_from_slice(b"\r\n");
            }
            let range = format!("Content-Range: bytes {}-{}/{length}\r\n\r\n", span.first, span.last);
            head.extend_from_slice(range.as_bytes());
            let (first, last) = (usize::try_from(span.first).ok()?, usize::try_from(span.last).ok()?);
            chunks.extend([Bytes::from(head), slice(data, first, last)?]);
        }
        chunks.push_back(Bytes::from(format!("\r\n--{boundary}--\r\n")));
        Some(Self { boundary, chunks })
    }

    fn answer<B: http_body::Body>(self, response: Response<Body<B>>) -> Response<Body<B>> {
        let (mut head, _) = response.into_parts();
        let sent: usize = self.chunks.iter().map(Bytes::len).sum();
        head.headers.insert(CONTENT_LENGTH, HeaderValue::from(sent));
        head.headers.remove(CONTENT_RANGE);
        head.headers.insert(CONTENT_TYPE, value(format!("multipart/byteranges; boundary={}", self.boundary)));
        Response::from_parts(head, Body::chunks(self.chunks))
    }
}

/// What is common to parts: the status, and which fields of the whole they leave out.
fn partial<B>(mut response: Response<B>, ranges: &Ranges) -> Response<B> {
    *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    let headers = response.headers_mut();
    // Of the message as it would have been: how it is framed, what follows it, what its content hashes to.
    for name in [TRANSFER_ENCODING, TRAILER, CONTENT_DIGEST] {
        headers.remove(name);
    }
    if ranges.continue_one() {
        // §15.3.7: the client has them. What tells others what these bytes are stays.
        headers.remove(CONTENT_LANGUAGE);
        if headers.contains_key(ETAG) {
            headers.remove(LAST_MODIFIED);
        }
    }
    response
}

/// None of it is there: how long it is (§15.5.17). Nothing of what the 200 says of its content or of its life is said of
/// this: a cache further down that kept it would answer others with it.
fn unsatisfiable<B: http_body::Body>(mut response: Response<Body<B>>, length: u64) -> Response<Body<B>> {
    // What is being stored is stored though its first reader gets none of it.
    response.body_mut().detach();
    let mut response = response.map(|_| Body::default());
    *response.status_mut() = StatusCode::RANGE_NOT_SATISFIABLE;
    let headers = response.headers_mut();
    for name in headers.keys().filter(|name| is_of_the_whole(name)).cloned().collect::<Vec<_>>() {
        headers.remove(name);
    }
    headers.insert(CONTENT_RANGE, value(format!("bytes */{length}")));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(0));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Whether a field of a 200 describes its content, names it, or says for how long it may be kept.
fn is_of_the_whole(name: &HeaderName) -> bool {
    let text = name.as_str();
    let of_its_content = text.starts_with("content-") && !text.starts_with("content-security-policy");
    of_its_content
        || text.ends_with("cache-control")
        || [ETAG, LAST_MODIFIED, EXPIRES, TRAILER, TRANSFER_ENCODING].contains(name)
}

/// What no content holds but by chance, and nobody foresees.
fn boundary() -> String {
    let lot = || RandomState::new().build_hasher().finish();
    format!("{:016x}{:016x}", lot(), lot())
}

fn slice(data: &Bytes, first: usize, last: usize) -> Option<Bytes> {
    (first <= last && last < data.len()).then(|| data.slice(first..=last))
}

fn value(text: String) -> HeaderValue {
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

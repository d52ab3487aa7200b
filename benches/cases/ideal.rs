//! The ideal hit: the least that a correct answer from memory does, written by hand for one response.
//!
//! It looks at the method and, in one pass over the fields, at the five that could forbid the answer; it looks the
//! response up by a key of host, path and query that it builds on the stack, in a sharded map; compares its age with its
//! lifetime; clones its prepared fields, writes `Age` and `Cache-Status` into the two places at their head; shares the
//! body. It knows one request, no variants, no refresh, no telemetry, and tells nobody but the client what it did.

use std::{
    collections::HashMap,
    convert::Infallible,
    future::{Ready, ready},
    sync::{Arc, RwLock},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, header};
use http_body_util::Full;
use tower::Service;

#[derive(Clone)]
pub(crate) struct Ideal(Arc<Shared>);

struct Shared {
    hasher: ahash::RandomState,
    shards: [RwLock<Shard>; 16],
    /// What a request is answered that may not have what is stored.
    otherwise: Response<Bytes>,
}

type Shard = HashMap<Box<[u8]>, Arc<Stored>, ahash::RandomState>;

struct Stored {
    headers: HeaderMap,
    body: Bytes,
    since: Instant,
    lifetime: Duration,
}

impl Ideal {
    /// Holds this for each path below `/quotes/` that is asked for first.
    pub(crate) fn new(response: Response<Bytes>) -> Self {
        let hasher = ahash::RandomState::new();
        let shards = std::array::from_fn(|_| RwLock::new(HashMap::with_hasher(hasher.clone())));
        Self(Arc::new(Shared { hasher, shards, otherwise: response }))
    }

    fn answer<B>(&self, request: &Request<B>) -> Option<Response<Full<Bytes>>> {
        if request.method() != Method::GET {
            return None;
        }
        let mut host = None;
        for (name, value) in request.headers() {
            match *name {
                header::HOST => host = Some(value),
                header::AUTHORIZATION
                | header::COOKIE
                | header::RANGE
                | header::IF_NONE_MATCH
                | header::CACHE_CONTROL => {
                    return None;
                }
                _ => {}
            }
        }
        let uri = request.uri();
        let mut key = Text::<256>::default();
        key.extend(host?.as_bytes())?;
        key.extend(uri.path().as_bytes())?;
        key.extend(b"?")?;
        key.extend(uri.query().unwrap_or_default().as_bytes())?;
        let key = key.written();
        let shard = &self.0.shards[(self.0.hasher.hash_one(key) >> 60) as usize];
        let found = shard.read().ok()?.get(key).map(Arc::clone);
        let stored = found.unwrap_or_else(|| {
            let mut headers = HeaderMap::with_capacity(8);
            headers.insert(header::AGE, HeaderValue::from_static("0"));
            headers.insert("cache-status", HeaderValue::from_static(""));
            // Copies, as of what comes from a connection: a part of its buffer would keep all of it alive.
            let fields = self.0.otherwise.headers();
            let values = Bytes::from(fields.values().map(HeaderValue::as_bytes).collect::<Vec<_>>().concat());
            let mut at = 0;
            for (name, value) in fields {
                let value = values.slice(at..at + value.len());
                at += value.len();
                headers.insert(name.clone(), HeaderValue::from_maybe_shared(value).expect("a value"));
            }
            let (body, lifetime) = (self.0.otherwise.body().clone(), super::HOUR);
            let stored = Arc::new(Stored { headers, body, since: Instant::now(), lifetime });
            shard.write().expect("no panic").insert(key.into(), Arc::clone(&stored));
            stored
        });
        let age = stored.since.elapsed();
        let left = stored.lifetime.checked_sub(age)?;
        let mut headers = stored.headers.clone();
        let mut places = headers.values_mut();
        if let (Some(told), Some(status)) = (places.next(), places.next()) {
            // Any other age would be one more allocation.
            *told = if age.as_secs() == 0 { HeaderValue::from_static("0") } else { HeaderValue::from(age.as_secs()) };
            let mut text = Text::<64>::default();
            text.extend(b"cacheback; hit; ttl=")?;
            text.number(left.as_secs())?;
            *status = HeaderValue::from_bytes(text.written()).ok()?;
        }
        let mut response = Response::new(Full::new(stored.body.clone()));
        *response.headers_mut() = headers;
        Some(response)
    }
}

impl<B> Service<Request<B>> for Ideal {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Full<Bytes>>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        ready(Ok(self.answer(&request).unwrap_or_else(|| self.0.otherwise.clone().map(Full::new))))
    }
}

/// Bytes on the stack. What is too long for it is not served from memory.
struct Text<const N: usize>([u8; N], usize);

impl<const N: usize> Default for Text<N> {
    fn default() -> Self {
        Self([0; N], 0)
    }
}

impl<const N: usize> Text<N> {
    fn extend(&mut self, bytes: &[u8]) -> Option<()> {
        let end = self.1 + bytes.len();
        self.0.get_mut(self.1..end)?.copy_from_slice(bytes);
        self.1 = end;
        Some(())
    }

    fn number(&mut self, number: u64) -> Option<()> {
        let (mut digits, mut at, mut rest) = ([0; 20], 20, number);
        loop {
            at -= 1;
            digits[at] = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                return self.extend(&digits[at..]);
            }
        }
    }

    fn written(&self) -> &[u8] {
        &self.0[..self.1]
    }
}

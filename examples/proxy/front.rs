//! What stands around the layer: which requests are let in, what is changed of them, and a line of log for each.

use std::net::IpAddr;

use bytes::Bytes;
use cacheback::{Body, Cacheback, Http};
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, Version, header, uri::Authority};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use tower::Service;

use super::{Origin, content::Download, fields, interim::Interim, line::Line, origin::Failure, way::Way, words::Words};

pub(crate) type Answer = Response<Either<Body<Download>, Full<Bytes>>>;

/// Who asks.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) address: IpAddr,
    /// What is said to it before it is answered.
    pub(crate) interim: Interim,
}

/// Answers requests of clients.
#[derive(Clone, Debug)]
pub(crate) struct Front {
    cached: Cacheback<Origin, Http>,
    way: Way,
}

impl Front {
    pub(crate) fn new(cached: Cacheback<Origin, Http>) -> Self {
        Self { cached, way: Way::new() }
    }

    /// The answer to one request, whatever it is.
    pub(crate) async fn answer(mut self, mut request: Request<Incoming>, client: Client) -> Answer {
        let line = Line::begin(&request);
        // Clients of HTTP/1.0 know no interim responses, and to those of HTTP/2 hyper writes none.
        let interim = (request.version() == Version::HTTP_11).then_some(client.interim);
        let answered = match (admit(&mut request, client.address, &self.way), interim) {
            (Err(words), _) => Err(words),
            (Ok(()), None) => self.cached.call(request).await.map_err(Failure::words),
            (Ok(()), Some(interim)) => {
                request.extensions_mut().insert(interim.teller());
                interim.before(self.cached.call(request)).await.map_err(Failure::words)
            }
        };
        let mut answer = match answered {
            Ok(response) => response.map(Either::Left),
            Err(words) => words.response().map(Either::Right),
        };
        *answer.version_mut() = Version::HTTP_11;
        fields::end_hop(answer.headers_mut());
        line.end(&answer);
        answer
    }
}

/// Makes a client's request the one that goes on, or says why it does not.
fn admit(request: &mut Request<Incoming>, client: IpAddr, way: &Way) -> Result<(), Words> {
    if request.method() == Method::CONNECT {
        return Err(Words::new(StatusCode::NOT_IMPLEMENTED, "this proxy makes no tunnels"));
    }
    if !fields::is_plain(request.headers()) {
        return Err(Words::new(StatusCode::NOT_IMPLEMENTED, "no transfer coding is known here but `chunked`"));
    }
    if request.uri().path() == "*" && request.method() != Method::OPTIONS {
        return Err(Words::new(StatusCode::BAD_REQUEST, "only OPTIONS asks about the server as a whole"));
    }
    if way.is_loop(request.headers()) {
        return Err(Words::new(StatusCode::LOOP_DETECTED, "the request was here before"));
    }
    forward_once_less(request)?;
    let host = host(request)?;
    let version = request.version();
    if let Some(host) = host {
        request.headers_mut().insert(header::HOST, host);
    }
    let target = request.uri().path_and_query().cloned().map_or_else(Uri::default, Uri::from);
    *request.uri_mut() = target;
    fields::end_hop(request.headers_mut());
    if version == Version::HTTP_2 {
        fields::join_cookies(request.headers_mut());
    }
    way.add(request.headers_mut(), version, client);
    Ok(())
}

/// Counts `Max-Forwards` down, which only OPTIONS and TRACE have; at 0 the request ends here (RFC 9110 §7.6.2).
fn forward_once_less(request: &mut Request<Incoming>) -> Result<(), Words> {
    if request.method() != Method::OPTIONS && request.method() != Method::TRACE {
        return Ok(());
    }
    let Some(left) = request.headers().get(header::MAX_FORWARDS) else { return Ok(()) };
    let left = left.to_str().ok().and_then(|left| left.parse::<u64>().ok());
    match left.map(|left| left.checked_sub(1)) {
        // What is no number says nothing.
        None => Ok(()),
        Some(Some(left)) => {
            request.headers_mut().insert(header::MAX_FORWARDS, left.into());
            Ok(())
        }
        Some(None) if request.method() == Method::OPTIONS => {
            Err(Words::new(StatusCode::OK, "a caching reverse proxy, which forwards all methods but CONNECT"))
        }
        Some(None) => Err(Words::new(StatusCode::NOT_IMPLEMENTED, "this proxy does not tell what it received")),
    }
}

/// Whom the request is meant for: the authority of its target, else `Host` (RFC 9112 §3.2). Only HTTP/1.0 may say nothing.
fn host(request: &Request<Incoming>) -> Result<Option<HeaderValue>, Words> {
    let bad = |why| Err(Words::new(StatusCode::BAD_REQUEST, why));
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return bad("several `Host` lines");
    }
    if host.is_some_and(|host| Authority::try_from(host.as_bytes()).map_or(true, |host| has_user(&host))) {
        return bad("`Host` is no host");
    }
    match request.uri().authority() {
        Some(target) if has_user(target) => bad("a target names no user"),
        // RFC 9113 §8.3.1. In HTTP/1 the target counts, and `Host` does not.
        Some(target) if request.version() == Version::HTTP_2 && host.is_some_and(|host| host != target.as_str()) => {
            bad("`Host` is another one than the target's")
        }
        Some(target) => match HeaderValue::from_str(target.as_str()) {
            Ok(host) => Ok(Some(host)),
            Err(_) => bad("the target has no host"),
        },
        None if host.is_none() && request.version() != Version::HTTP_10 => bad("`Host` is missing"),
        None => Ok(host.cloned()),
    }
}

fn has_user(authority: &Authority) -> bool {
    authority.as_str().contains('@')
}

//! What is in the key of a call beside its method and message, and what a run sees of its metadata.

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Uri,
    header::{self, CONTENT_TYPE, TE},
    request::Parts,
};

use crate::{
    grpc::Grpc,
    http::{
        request::{Survey, write_field},
        rules::{KeyRules, project_authority, received_uri},
    },
    key::KeyBuf,
    status::Detail,
};

pub(crate) const GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
pub(crate) const GRPC_ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");

/// What a run sees though it is in no key: to whose trace the call belongs.
static TRACE: [HeaderName; 2] = [HeaderName::from_static("traceparent"), HeaderName::from_static("tracestate")];

/// The codings that count. Every client reads what has none.
const CODINGS: [&str; 4] = ["deflate", "gzip", "snappy", "zstd"];

/// Those of them that a client reads, as bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Accepted(u8);

impl Accepted {
    pub(crate) fn by(metadata: &HeaderMap) -> Self {
        let lines = metadata.get_all(GRPC_ACCEPT_ENCODING).iter();
        let named = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b',')).map(<[u8]>::trim_ascii);
        let places = named.filter_map(|name| CODINGS.iter().position(|coding| name == coding.as_bytes()));
        Self(places.fold(0, |found, place| found | 1 << place))
    }

    /// The one way in which all clients that read the same say so.
    fn value(self) -> Option<HeaderValue> {
        let read = CODINGS.iter().enumerate().filter(|(place, _)| self.0 & 1 << place != 0).map(|(_, coding)| *coding);
        let read = read.collect::<Vec<_>>().join(",");
        if read.is_empty() { None } else { HeaderValue::try_from(read).ok() }
    }
}

impl Grpc {
    /// The part of a call's key that follows its method and message, or why it has none.
    pub(super) fn rest_of_key(&self, call: &Parts) -> Result<KeyBuf, Detail> {
        let survey = Survey::of(&call.headers, &self.rules.table);
        if let Some(detail) = survey.uncovered(&self.rules) {
            return Err(detail);
        }
        let (received, seen) = received_uri(&call.uri, &call.extensions);
        if received.query().is_some() || call.uri.query().is_some() {
            return Err(Detail::Excluded);
        }
        let mut key = KeyBuf::default();
        key.part(survey.authority(call.into())?.as_deref());
        key.part(self.rules.namespace.as_deref().map(str::as_bytes));
        // No key of an HTTP layer is like this one: what stands for its message no URI has as its query (key.rs).
        key.part(self.rules.print());
        key.part(seen.map(|seen| seen.path().as_bytes()));
        if let Some(seen) = seen {
            // That of the received URI has been written: only another one counts, as around HTTP (http/request.rs).
            let another = seen.authority() != received.authority();
            key.kind(u8::from(another));
            if another {
                key.part(seen.authority().map(|authority| authority.as_str().as_bytes()));
            }
        }
        // All lines: a run sees them all.
        write_field(&call.headers, &CONTENT_TYPE, &mut key);
        key.kind(Accepted::by(&call.headers).0);
        for name in &self.rules.key_headers {
            write_field(&call.headers, name, &mut key);
        }
        match self.rules.key_by.as_ref().map(|key_by| (key_by.call)(call)) {
            Some(None) => Err(Detail::NoKey),
            Some(Some(own)) => {
                key.part(Some(&own));
                Ok(key)
            }
            None => Ok(key),
        }
    }
}

/// Makes the head of a call what every run of its key sees.
pub(crate) fn project(rules: &KeyRules, call: &mut Parts, compressed: bool) {
    // As it came: a coding that no client reads is none of those that count.
    let accepted = Accepted::by(&call.headers).value();
    let shown = |name: &HeaderName| {
        [CONTENT_TYPE, header::HOST].contains(name)
            || *name == GRPC_ENCODING && compressed
            || TRACE.contains(name)
            || rules.key_headers.contains(name)
    };
    let mut seen = HeaderMap::new();
    for (name, value) in call.headers.iter().filter(|(name, _)| shown(name)) {
        seen.append(name, value.clone());
    }
    seen.insert(TE, HeaderValue::from_static("trailers"));
    if let Some(accepted) = accepted {
        seen.insert(GRPC_ACCEPT_ENCODING, accepted);
    }
    call.headers = seen;
    project_authority(call);
}

/// Whether a request is a call of gRPC over HTTP/2.
pub(crate) fn is_call<B>(request: &Request<B>) -> bool {
    request.method() == Method::POST && is_grpc(request.headers()) && !request.headers().contains_key(header::UPGRADE)
}

/// Whether this is content of gRPC, and not of gRPC-Web.
pub(crate) fn is_grpc(fields: &HeaderMap) -> bool {
    let Some(kind) = fields.get(CONTENT_TYPE) else { return false };
    let (kind, grpc) = (kind.as_bytes(), b"application/grpc");
    let Some((head, rest)) = kind.split_at_checked(grpc.len()) else { return false };
    head.eq_ignore_ascii_case(grpc) && matches!(rest.first(), None | Some(b'+' | b';' | b' '))
}

/// Whether this is the path of a method.
pub(crate) fn is_method(path: &str) -> bool {
    let is_name = |name: &str| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic());
    let Some((service, method)) = path.strip_prefix('/').and_then(|path| path.split_once('/')) else { return false };
    is_name(service)
        && is_name(method)
        && !method.contains('/')
        && path.parse::<Uri>().is_ok_and(|uri| uri.path() == path && uri.query().is_none())
}

/// The coding of a compressed message, if it is one that a key may rely on: named once.
pub(crate) fn coding(metadata: &HeaderMap) -> Option<&HeaderValue> {
    let mut lines = metadata.get_all(GRPC_ENCODING).iter();
    lines.next().filter(|_| lines.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test] // P80
    fn what_a_client_reads_has_one_way_of_being_said() {
        for (lines, said) in [
            (&[][..], None),
            (&["identity"], None),
            (&["br,x"], None),
            (&["gzip"], Some("gzip")),
            (&["identity, gzip ,deflate"], Some("deflate,gzip")),
            (&["deflate", "gzip,gzip", "a1,a2,a3"], Some("deflate,gzip")),
            (&["zstd,snappy,gzip,deflate"], Some("deflate,gzip,snappy,zstd")),
        ] {
            let mut metadata = HeaderMap::new();
            for line in lines {
                metadata.append(GRPC_ACCEPT_ENCODING, HeaderValue::from_static(line));
            }
            let value = Accepted::by(&metadata).value();
            assert_eq!(value.as_ref().map(HeaderValue::as_bytes), said.map(str::as_bytes), "{lines:?}");
        }
    }

    #[test] // P80
    fn content_of_grpc_is_told_from_that_of_grpc_web() {
        for (kind, expected) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("Application/gRPC;x=y", true),
            ("application/grpc-web", false),
            ("application/grpc-web+proto", false),
            ("application/grp", false),
            ("application/json", false),
        ] {
            let fields = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(kind))]);
            assert_eq!(is_grpc(&fields), expected, "{kind}");
        }
        assert!(!is_grpc(&HeaderMap::new()));
    }

    #[test] // P92
    fn a_method_has_a_service_and_a_name() {
        assert!(is_method("/quotes.Quotes/Get") && is_method("/q/G"));
        for odd in ["", "/", "quotes.Quotes/Get", "/Get", "//Get", "/q/", "/q/G/", "/q/G?x", "/q/G#x", "/q /G", "/é/G"]
        {
            assert!(!is_method(odd), "{odd}");
        }
    }
}

//! What a method that may change things purges (RFC 9111 §4.4): its target, and what its response says it touched, by
//! reference or as a group (RFC 9875 §3).

use http::{HeaderMap, Uri, header};

use crate::{
    authority::normal_authority,
    http::{
        groups,
        request::{Request, Survey, path},
        rules::{KeyRules, QueryRule},
    },
    key::UriParts,
    scope::Scope,
};

/// The target of a request with an unsafe method.
#[derive(Debug)]
pub struct Target {
    scheme: Option<Box<str>>,
    authority: Option<Box<[u8]>>,
    path: Box<str>,
    query: Option<Box<[u8]>>,
    rule: QueryRule,
}

impl Target {
    /// The target as its pages are keyed; none where the authority cannot be told.
    pub(crate) fn of(request: Request<'_>, rules: &KeyRules) -> Option<Self> {
        let authority = Survey::of(request.headers, &rules.table).authority(request).ok()?;
        let received = request.received;
        let mut room = Vec::new();
        Some(Self {
            scheme: received.scheme_str().map(Into::into),
            authority: authority.as_deref().map(Into::into),
            path: received.path().into(),
            query: rules.query.keyed(received.query(), &mut room).map(Into::into),
            rule: rules.query.clone(),
        })
    }

    /// All that a successful response purges: the target, and what `Location`, `Content-Location` and
    /// `Cache-Group-Invalidation` name on the same origin. Another origin is not ours to purge.
    pub(crate) fn scopes(&self, response: &HeaderMap) -> Vec<Scope> {
        let target =
            UriParts { path: self.path.as_bytes(), query: self.query.as_deref(), authority: self.authority.as_deref() };
        let named = [header::LOCATION, header::CONTENT_LOCATION];
        let named = named.iter().filter_map(|name| self.resolve(response.get(name)?.to_str().ok()?));
        let groups = groups::invalidated(response, self.authority.as_deref());
        std::iter::once(Scope::exactly(target)).chain(named).chain(groups).collect()
    }

    /// The scope that a reference names, if it is of the same origin (RFC 3986 §5.2).
    fn resolve(&self, reference: &str) -> Option<Scope> {
        let reference = reference.split('#').next()?;
        let relative = |reference: &str| match reference {
            "" => None,
            _ if reference.starts_with("//") => {
                Some(format!("{}:{reference}", self.scheme.as_deref().unwrap_or("http")))
            }
            _ if reference.starts_with('/') => Some(reference.to_owned()),
            _ if reference.starts_with('?') => Some(format!("{}{reference}", self.path)),
            _ => {
                let directory = self.path.rfind('/').map_or("/", |end| &self.path[..=end]);
                Some(format!("{directory}{reference}"))
            }
        };
        let is_absolute = reference.split(['/', '?']).next().is_some_and(|start| start.contains(':'));
        let reference = if is_absolute { reference.to_owned() } else { relative(reference)? };
        let uri: Uri = reference.parse().ok()?;
        if let Some(authority) = uri.authority() {
            // Which of the two it is an HTTP/1 request does not say.
            let same_scheme = uri.scheme_str().is_some_and(|scheme| match &self.scheme {
                Some(own) => own.eq_ignore_ascii_case(scheme),
                None => scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https"),
            });
            let same =
                |own: &[u8]| same_scheme && *normal_authority(authority.as_str().as_bytes(), uri.scheme_str()) == *own;
            if !self.authority.as_deref().is_some_and(same) {
                return None;
            }
        }
        let path = without_dots(std::str::from_utf8(path(&uri)).ok()?);
        let mut room = Vec::new();
        Some(Scope::exactly(UriParts {
            path: path.as_bytes(),
            query: self.rule.keyed(uri.query(), &mut room),
            authority: self.authority.as_deref(),
        }))
    }
}

/// Takes `.` and `..` out of a path (RFC 3986 §5.2.4).
fn without_dots(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            "." | ".." => {
                if segment == ".." {
                    kept.pop();
                }
                if last {
                    kept.push("");
                }
            }
            segment => kept.push(segment),
        }
    }
    format!("/{}", kept.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Mode;

    fn target(uri: &str) -> Target {
        let request = http::Request::builder().method("POST").uri(uri).body(()).unwrap();
        Target::of((&request).into(), &KeyRules::new(Mode::Application)).unwrap()
    }

    fn scope(uri: &str) -> Option<Scope> {
        Some(Scope::uri(uri).unwrap())
    }

    #[test]
    fn rfc9111_4_4_references_of_the_same_origin_are_resolved() {
        let target = target("http://a.example/dir/page?q=1");
        for (reference, named) in [
            ("/other", scope("http://a.example/other")),
            ("other?x", scope("http://a.example/dir/other?x")),
            ("../up", scope("http://a.example/up")),
            ("?q=2#part", scope("http://a.example/dir/page?q=2")),
            ("http://A.example:80/abs", scope("http://a.example/abs")),
            ("//a.example/abs", scope("http://a.example/abs")),
            ("http://b.example/other", None),
            ("//b.example/other", None),
            ("https://a.example/abs", None),
            ("https://a.example:80/abs", None),
            ("ftp://a.example/abs", None),
            ("", None),
            ("mailto:someone@a.example", None),
            ("http://", None),
        ] {
            assert_eq!(target.resolve(reference), named, "{reference}");
        }
    }

    #[test]
    fn rfc9111_4_4_where_the_scheme_is_not_known_either_will_do() {
        let request = http::Request::builder().method("POST").uri("/x").header("host", "a.example").body(()).unwrap();
        let target = Target::of((&request).into(), &KeyRules::new(Mode::Application)).unwrap();
        for scheme in ["http", "HTTPS"] {
            assert_eq!(target.resolve(&format!("{scheme}://a.example/y")), scope("http://a.example/y"));
        }
        for other in ["ftp://a.example/y", "https://a.example:80/y", "http://a.example:443/y"] {
            assert_eq!(target.resolve(other), None, "{other}");
        }
    }

    #[test]
    fn dots_never_climb_over_the_root() {
        for (path, without) in
            [("/a/./b", "/a/b"), ("/a/../b", "/b"), ("/../../b", "/b"), ("/a/..", "/"), ("/a/.", "/a/")]
        {
            assert_eq!(without_dots(path), without);
        }
    }
}

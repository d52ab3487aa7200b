//! Which fields a response has, of those that a verdict asks for: found in one pass over its names.
//!
//! Most responses have few fields, and none of most that are asked for. A look-up by name costs as much whether it finds
//! something or not; this costs a jump for each name that is there.

use http::{HeaderMap, HeaderName, header};

/// The fields of one response, as far as anybody asks for them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Present(u32);

/// What is asked for: a field, or several that are asked for together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Field {
    Age,
    AllowOrigin,
    /// What asks who somebody is, or confirms it.
    Authenticate,
    CacheControl,
    /// A validator.
    Condition,
    ContentEncoding,
    ContentLength,
    ContentRange,
    ContentType,
    Expires,
    Groups,
    Policy,
    Pragma,
    SetCookie,
    /// A field that speaks to this cache before `Cache-Control` does.
    Targeted,
    Vary,
}

impl Present {
    /// Those of this response; which fields are targeted is the layer's to say.
    pub(crate) fn of(response: &HeaderMap, targeted: impl Fn(&HeaderName) -> bool) -> Self {
        let found = response.keys().fold(0, |found, name| {
            let own = if targeted(name) { 1 << Field::Targeted as u32 } else { 0 };
            found | own | Field::of(name).map_or(0, |field| 1 << field as u32)
        });
        Self(found)
    }

    pub(crate) fn has(self, field: Field) -> bool {
        self.0 & (1 << field as u32) != 0
    }
}

impl Field {
    fn of(name: &HeaderName) -> Option<Self> {
        Some(match *name {
            header::AGE => Self::Age,
            header::ACCESS_CONTROL_ALLOW_ORIGIN => Self::AllowOrigin,
            header::WWW_AUTHENTICATE | header::PROXY_AUTHENTICATE => Self::Authenticate,
            header::CACHE_CONTROL => Self::CacheControl,
            header::ETAG | header::LAST_MODIFIED => Self::Condition,
            header::CONTENT_ENCODING => Self::ContentEncoding,
            header::CONTENT_LENGTH => Self::ContentLength,
            header::CONTENT_RANGE => Self::ContentRange,
            header::CONTENT_TYPE => Self::ContentType,
            header::EXPIRES => Self::Expires,
            header::CONTENT_SECURITY_POLICY | header::CONTENT_SECURITY_POLICY_REPORT_ONLY => Self::Policy,
            header::PRAGMA => Self::Pragma,
            header::SET_COOKIE => Self::SetCookie,
            header::VARY => Self::Vary,
            _ => match name.as_str() {
                "authentication-info" => Self::Authenticate,
                "cache-groups" => Self::Groups,
                _ => return None,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_field_is_found_by_its_name_and_no_other_is() {
        let fields = [
            ("age", Field::Age),
            ("access-control-allow-origin", Field::AllowOrigin),
            ("www-authenticate", Field::Authenticate),
            ("proxy-authenticate", Field::Authenticate),
            ("authentication-info", Field::Authenticate),
            ("cache-control", Field::CacheControl),
            ("etag", Field::Condition),
            ("last-modified", Field::Condition),
            ("content-encoding", Field::ContentEncoding),
            ("content-length", Field::ContentLength),
            ("content-range", Field::ContentRange),
            ("content-type", Field::ContentType),
            ("expires", Field::Expires),
            ("cache-groups", Field::Groups),
            ("content-security-policy", Field::Policy),
            ("content-security-policy-report-only", Field::Policy),
            ("pragma", Field::Pragma),
            ("set-cookie", Field::SetCookie),
            ("mine-alone", Field::Targeted),
            ("vary", Field::Vary),
        ];
        for (name, _) in fields {
            let response = HeaderMap::from_iter([
                (HeaderName::from_static("date"), HeaderValue::from_static("")),
                (HeaderName::from_static(name), HeaderValue::from_static("")),
            ]);
            let present = Present::of(&response, |name| name == "mine-alone");
            for (other, field) in fields {
                let is_it = fields.contains(&(name, field));
                assert_eq!(present.has(field), is_it, "{other} in a response with {name}");
            }
        }
    }
}

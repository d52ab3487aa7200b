//! What a run saw of its request, for when the response names the fields that select it: the lines of its fields.
//!
//! Most responses name none. So this is no map: it is made for each run, and asked for a few.

use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::entry::Fields;

/// The lines of a request's fields, as the service saw them.
#[derive(Debug)]
pub struct Sight(Vec<(HeaderName, HeaderValue)>);

impl Sight {
    pub(crate) fn of(request: &HeaderMap) -> Self {
        Self(request.iter().map(|(name, value)| (name.clone(), value.clone())).collect())
    }

    /// Whether it said who asks.
    pub(crate) fn has_authorization(&self) -> bool {
        self.0.iter().any(|(name, _)| *name == header::AUTHORIZATION)
    }

    /// These fields, as far as they were there.
    pub(crate) fn of_these(&self, fields: &Fields) -> HeaderMap {
        let selecting = self.0.iter().filter(|(name, _)| fields.iter().any(|field| **field == *name.as_str()));
        selecting.cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test] // P44
    fn what_selects_is_there_with_all_its_lines_in_their_order_and_nothing_else_is() {
        let mut request = HeaderMap::new();
        for (name, value) in [("accept", "a"), ("x-own", "1"), ("accept", "b"), ("x-own", ""), ("authorization", "me")]
        {
            let mut value = HeaderValue::from_static(value);
            value.set_sensitive(true);
            request.append(name, value);
        }
        let sight = Sight::of(&request);
        assert!(sight.has_authorization());
        request.remove("authorization");
        assert!(!Sight::of(&request).has_authorization());
        let fields = |names: [&str; 3]| Fields::new(names.map(Into::into).into());
        assert_eq!(sight.of_these(&fields(["x-own", "accept", "absent"])), request);
        assert!(sight.of_these(&fields(["absent", "x-ow", "x-own2"])).is_empty());
    }
}

//! The groups that a response belongs to.

use std::sync::Arc;

/// The groups that a response belongs to, by which it can be invalidated.
///
/// As a part of an axum response (feature `axum`) it tags that response. A `Cache-Groups` field of the response
/// (RFC 9875) does the same: what it lists is added to these.
///
/// ```
/// # use cacheback::Tags;
/// let tags = Tags::new(["quotes", "prices"]);
/// assert!(tags.contains("quotes"));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tags(
    // Most responses have none: then it is one word and nothing else.
    Option<Arc<Box<[Arc<str>]>>>,
);

impl Tags {
    /// The groups of these names.
    pub fn new<T: Into<Arc<str>>>(tags: impl IntoIterator<Item = T>) -> Self {
        Self::of(tags.into_iter().map(Into::into).collect())
    }

    fn of(tags: Box<[Arc<str>]>) -> Self {
        Self((!tags.is_empty()).then(|| Arc::new(tags)))
    }

    /// Whether this is one of the groups.
    #[must_use]
    pub fn contains(&self, tag: &str) -> bool {
        self.iter().any(|own| own == tag)
    }

    /// The groups, in the order in which they were given.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.shared().map(|tag| &**tag)
    }

    fn shared(&self) -> impl Iterator<Item = &Arc<str>> {
        self.0.iter().flat_map(|tags| tags.iter())
    }

    /// These, and then those of the others that are not among them.
    pub(crate) fn and(&self, others: Vec<Arc<str>>) -> Self {
        let others = others.into_iter().filter(|other| !self.contains(other));
        Self::of(self.shared().cloned().chain(others).collect())
    }

    /// These but for those.
    pub(crate) fn without(&self, those: &[Arc<str>]) -> Self {
        Self::of(self.shared().filter(|tag| !those.contains(tag)).cloned().collect())
    }

    /// What the tags take in memory.
    pub(crate) fn weight(&self) -> usize {
        self.0.as_ref().map_or(0, |_| 16 + size_of::<Box<[Arc<str>]>>())
            + self.iter().map(|tag| tag.len() + 32).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_kept_in_their_order_and_those_without_any_are_all_the_same() {
        let tags = Tags::new(["b", "a", "b"]);
        assert_eq!(tags.iter().collect::<Vec<_>>(), ["b", "a", "b"]);
        assert_eq!(tags.and(vec!["a".into(), "c".into()]), Tags::new(["b", "a", "b", "c"]));
        assert_eq!(tags.without(&["b".into()]), Tags::new(["a"]));
        assert_ne!(Tags::new(["a", "b"]), Tags::new(["b", "a"]));
        for none in [Tags::new([""; 0]), tags.without(&["a".into(), "b".into()]), Tags::default().and(Vec::new())] {
            assert_eq!((&none, none.weight()), (&Tags::default(), 0));
        }
    }
}

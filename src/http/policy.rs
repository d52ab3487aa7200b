//! The verdict on a response by its head: may it be stored, may it be shared, for how long (RFC 9111 §3, §4.2).
//!
//! What forbids is asked first and never overridden. Then what grants a lifetime: the handler's own word, the
//! response's fields, the layer. Nothing here reads a body or a clock but the one that `Expires` without `Date` needs.

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, HeaderName, StatusCode, header};

use crate::{
    clock,
    entry::Fields,
    freshness::Freshness,
    http::{
        cache_control::{CacheControl, age_header, explicit_freshness, heuristic_freshness},
        content_length, groups,
        parts::{Contribution, NoStore},
        present::{Field, Present},
        statuses,
        targeted::Targets,
        validation::Validators,
    },
    judgement::{Class, Judgement},
    status::Detail,
};

/// Whose word counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// The layer's, where the response says nothing; what might be private is not stored, whatever it says.
    Application,
    /// The response's alone, as RFC 9111 reads it.
    Protocol,
}

/// How a layer judges.
#[derive(Clone, Debug)]
pub(crate) struct Policy {
    pub(crate) mode: Mode,
    /// Which fields speak to this cache before `Cache-Control` does.
    pub(crate) targets: Targets,
    /// The largest body that is stored, in bytes.
    pub(crate) body_cap: usize,
    /// Lifetimes of responses with other statuses than those that the layer's own lifetime applies to.
    pub(crate) negative: Arc<[(StatusCode, Freshness)]>,
    /// Only what somebody opts in is stored.
    pub(crate) opt_in: bool,
    /// Responses that state their own freshness get the layer's windows too.
    pub(crate) stale_windows_for_all: bool,
    /// How long a response that states its own freshness, and not this, may stand in for a run that failed.
    pub(crate) stale_if_error: Option<Duration>,
    /// Responses that state no lifetime get one by their age.
    pub(crate) heuristics: bool,
    /// How long past its lifetime a response with a validator is kept to be validated.
    pub(crate) kept: Duration,
    /// Without a validator it is kept for as long, for those who say that it may be stale.
    pub(crate) on_demand: bool,
}

/// A head with more fields is not stored: a map has no room for two of these.
pub(crate) const MOST_FIELDS: usize = 8_192;

/// What is known of a response before its body.
#[derive(Clone, Copy)]
pub(crate) struct Head<'a> {
    pub(crate) status: StatusCode,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) extensions: &'a http::Extensions,
    /// The body says itself that it has at least this many bytes.
    pub(crate) at_least: u64,
    /// The request carried a credential that the key does not cover.
    pub(crate) authorized: bool,
}

impl Policy {
    /// The verdict, where `own` is the layer's freshness.
    pub(crate) fn judge(&self, head: Head<'_>, own: &Freshness) -> Judgement {
        let mut judged = self.judge_for_all(head, own);
        if head.authorized && judged.class != Class::Storable && judged.detail != Some(Detail::NotOptedIn) {
            // What one gets who said who he is tells nothing of what others get.
            judged.refuse(Class::Personal { mark: false }, Detail::Credential);
        }
        judged
    }

    /// Whether a response to a request with `Authorization` may be stored by what it says (RFC 9111 §3.5).
    pub(crate) fn lets_share(&self, headers: &HeaderMap) -> bool {
        is_for_all(&self.targets.directives(headers))
    }

    fn judge_for_all(&self, head: Head<'_>, own: &Freshness) -> Judgement {
        let contributed = head.extensions.get::<Contribution>();
        let own = contributed.map_or(own, |inner| &inner.freshness);
        let there = Present::of(head.headers, |name| self.targets.contain(name));
        let directives = if there.has(Field::CacheControl) || there.has(Field::Targeted) {
            self.targets.directives(head.headers)
        } else {
            CacheControl::default()
        };
        let mut judged = Judgement::storable(*own);
        judged.failed = statuses::is_failure(head.status);
        judged.tags = if there.has(Field::Groups) {
            groups::tags(head.headers, head.extensions)
        } else {
            groups::said(head.extensions)
        };
        if there.has(Field::Age) {
            judged.age = age_header(head.headers);
        }

        if !self.is_opted_in(head.extensions) {
            judged.refuse(Class::Personal { mark: false }, Detail::NotOptedIn);
            return judged;
        }
        if let Some(detail) = self.forbidden(head, there, &directives) {
            // A client can bring about an error, and must not switch collapsing off with it.
            let mark =
                head.status.as_u16() < 400 && !matches!(detail, Detail::Status | Detail::Partial | Detail::Credential);
            judged.refuse(Class::Personal { mark }, detail);
            return judged;
        }
        if there.has(Field::Vary) || there.has(Field::ContentEncoding) {
            judged.fields = selecting_fields(head.headers);
        }
        judged.withheld = names(directives.withheld.iter().map(|name| name.as_str().into()));

        let negative = contributed.map_or(&self.negative, |inner| &inner.negative);
        let Some((freshness, explicit)) = self.granted(head, there, own, negative, &directives) else {
            let guessable = statuses::is_heuristically_cacheable(head.status) && self.mode == Mode::Protocol;
            judged.refuse(self.for_now(head.status), if guessable { Detail::NoLifetime } else { Detail::Status });
            return judged;
        };
        judged.explicit = explicit;
        judged.for_all = is_for_all(&directives) || head.extensions.get::<Freshness>().is_some();
        judged.said = head.extensions.get::<Freshness>().is_some();
        judged.validate = is_no_cache(there, head.headers, &directives);
        let must_revalidate = directives.must_revalidate || directives.proxy_revalidate;
        judged.freshness = if judged.validate {
            Freshness::exact(Duration::ZERO)
        } else if must_revalidate {
            Freshness::exact(freshness.lifetime())
        } else {
            freshness
        };
        // §5.2.1.2 goes as far as §4.2.4: never against what forbids it, nor where the layer says for how long.
        let stated = explicit || directives.s_maxage.or(directives.max_age).is_some();
        let forbidden = must_revalidate || judged.validate || directives.s_maxage.is_some();
        judged.on_demand = self.on_demand && stated && !judged.said && !forbidden;
        if judged.on_demand || has_validators(there, head) {
            judged.freshness = judged.freshness.kept_for(self.kept);
        }
        // In protocol mode nobody is told apart from others by more than the response says: what others may not be given
        // once it is stored they may not be given either while they wait for it (RFC 9111 §4).
        judged.by_the_letter = self.mode == Mode::Protocol;
        judged.validate |= judged.by_the_letter && judged.freshness.stale_until().is_zero();
        if judged.age >= judged.freshness.gone_at() {
            judged.refuse(self.for_now(head.status), Detail::NoLifetime);
        }
        judged
    }

    /// Who may have a response that nothing forbids to share and nothing lets be stored.
    fn for_now(&self, status: StatusCode) -> Class {
        match self.mode {
            Mode::Application => Class::Shareable,
            Mode::Protocol => Class::Personal { mark: status.as_u16() < 400 },
        }
    }

    /// Whether somebody opted the response in, where somebody has to.
    pub(crate) fn is_opted_in(&self, extensions: &http::Extensions) -> bool {
        !self.opt_in || extensions.get::<Contribution>().is_some() || extensions.get::<Freshness>().is_some()
    }

    /// What lets the response live, and whether caches further down read the same in its fields.
    fn granted(
        &self,
        head: Head<'_>,
        there: Present,
        own: &Freshness,
        negative: &[(StatusCode, Freshness)],
        directives: &CacheControl,
    ) -> Option<(Freshness, bool)> {
        let Head { status, headers, .. } = head;
        if statuses::is_never_stored(status) {
            return None;
        }
        if let Some(said) = head.extensions.get::<Freshness>() {
            return Some((*said, false));
        }
        let says = [Field::CacheControl, Field::Targeted, Field::Expires].iter().any(|field| there.has(*field));
        if says && let Some(lifetime) = explicit_freshness(headers, directives, clock::wall()) {
            return Some((self.stated(lifetime, own, directives), !directives.targeted));
        }
        let default = self.mode == Mode::Application && statuses::has_default_lifetime(status);
        let rule = negative.iter().rev().find(|(of, _)| *of == status).map(|(_, freshness)| freshness);
        if let Some(freshness) = rule.or_else(|| default.then_some(own)) {
            return Some((*freshness, false));
        }
        if !directives.public && !statuses::is_heuristically_cacheable(status) {
            return None;
        }
        if self.heuristics
            && let Some(lifetime) = heuristic_freshness(headers, clock::wall())
        {
            return Some((self.stated(lifetime, own, directives), false));
        }
        // Good for nothing but to be validated.
        (self.mode == Mode::Protocol && has_validators(there, head)).then(|| (Freshness::exact(Duration::ZERO), true))
    }

    /// The windows of a response whose lifetime is not the layer's: those that it states.
    ///
    /// `s-maxage` implies `proxy-revalidate` (RFC 9111 §5.2.2.10): such a response gets no windows of the layer's. Those
    /// that it states itself are extensions, which may lift what they modify (§5.2.3), and they say when: they hold, unless
    /// `proxy-revalidate` or `must-revalidate` is spelt out as well.
    fn stated(&self, lifetime: Duration, own: &Freshness, directives: &CacheControl) -> Freshness {
        let windows = if self.stale_windows_for_all && directives.s_maxage.is_none() {
            own.with_lifetime(lifetime)
        } else {
            Freshness::exact(lifetime)
        };
        let windows = match directives.stale_while_revalidate {
            Some(window) => windows.stale_while_revalidate(window),
            None => windows,
        };
        let own = self.stale_if_error.filter(|_| directives.s_maxage.is_none());
        match directives.stale_if_error.or(own) {
            Some(window) => windows.stale_if_error(window),
            None => windows,
        }
    }

    /// Why nobody but the one who asked may have the response, if so.
    fn forbidden(&self, head: Head<'_>, there: Present, directives: &CacheControl) -> Option<Detail> {
        let Head { status, headers, .. } = head;
        if status.is_informational() || status == StatusCode::NOT_MODIFIED {
            return Some(Detail::Status);
        }
        // The field means nothing beside other statuses (RFC 9110 §14.4); who uses it there may mean a part all the same.
        let partial = self.mode == Mode::Application && there.has(Field::ContentRange);
        if status == StatusCode::PARTIAL_CONTENT || partial {
            return Some(Detail::Partial);
        }
        // RFC 9111 §3.5. A handler's own word counts for as much as its fields. Asked before all else that it says of
        // itself: what one gets who said who he is tells nothing of what others get.
        if head.authorized && !is_for_all(directives) && head.extensions.get::<Freshness>().is_none() {
            return Some(Detail::Credential);
        }
        if head.extensions.get::<NoStore>().is_some() {
            return Some(Detail::HandlerSaidNo);
        }
        // `no-store` beside `must-understand` is meant for those who do not (RFC 9111 §5.2.2.3).
        let understood = directives.must_understand && statuses::is_understood(status);
        if directives.no_store && !understood {
            return Some(Detail::NoStore);
        }
        if directives.must_understand && !understood {
            return Some(Detail::Status);
        }
        if directives.private {
            return Some(Detail::Private);
        }
        // Stored to be validated, if there is something to validate it by.
        if is_no_cache(there, headers, directives) && !has_validators(there, head) {
            return Some(Detail::NoCache);
        }
        if there.has(Field::SetCookie) && !directives.withheld.contains(&header::SET_COOKIE) {
            return Some(Detail::SetCookie);
        }
        if self.mode == Mode::Protocol {
            return self.unfit(head, there);
        }
        if status == StatusCode::UNAUTHORIZED
            || status == StatusCode::PROXY_AUTHENTICATION_REQUIRED
            || there.has(Field::Authenticate)
        {
            return Some(Detail::Authenticate);
        }
        if there.has(Field::Policy) && has_nonce(headers) {
            return Some(Detail::Nonce);
        }
        if there.has(Field::AllowOrigin)
            && headers.get_all(header::ACCESS_CONTROL_ALLOW_ORIGIN).iter().any(|origin| origin != "*")
            && !list(headers, header::VARY).any(|member| member.eq_ignore_ascii_case(b"origin"))
        {
            return Some(Detail::AllowOrigin);
        }
        self.unfit(head, there)
    }

    /// Why it cannot be stored whatever it says, if so.
    fn unfit(&self, head: Head<'_>, there: Present) -> Option<Detail> {
        // A member that names no field is read as the one that names them all: else what it was meant to tell apart
        // would be shared.
        let is_none = |member: &[u8]| member == b"*" || HeaderName::from_bytes(member).is_err();
        if there.has(Field::Vary) && list(head.headers, header::VARY).any(is_none) {
            return Some(Detail::VaryAny);
        }
        if there.has(Field::ContentType) && is_stream(head.headers) {
            return Some(Detail::EventStream);
        }
        let stated = if there.has(Field::ContentLength) { content_length(head.headers).unwrap_or(0) } else { 0 };
        let too_large = head.at_least.max(stated) > self.body_cap as u64 || head.headers.keys_len() > MOST_FIELDS;
        too_large.then_some(Detail::TooLarge)
    }
}

/// Whether a response says that it may be stored also where its request said who asks (§3.5).
fn is_for_all(directives: &CacheControl) -> bool {
    directives.public || directives.must_revalidate || directives.s_maxage.is_some()
}

/// Whether nobody may have it before it was validated. `Pragma` says nothing to a cache that reads `Cache-Control`; where
/// it stands alone we take it at its word.
fn is_no_cache(there: Present, headers: &HeaderMap, directives: &CacheControl) -> bool {
    let pragma =
        || headers.get(header::PRAGMA).is_some_and(|pragma| pragma.as_bytes().eq_ignore_ascii_case(b"no-cache"));
    let alone = there.has(Field::Pragma) && !there.has(Field::CacheControl) && !directives.targeted;
    directives.no_cache || alone && pragma()
}

/// Whether there is something to validate a response by.
fn has_validators(there: Present, head: Head<'_>) -> bool {
    there.has(Field::Condition) && Validators::are_in(head.status, head.headers)
}

/// The fields that `Vary` names, sorted; a coded response varies by `Accept-Encoding`, whether it says so or not.
fn selecting_fields(headers: &HeaderMap) -> Option<Fields> {
    let named = list(headers, header::VARY).map(|member| String::from_utf8_lossy(member).to_ascii_lowercase().into());
    let implied = headers.contains_key(header::CONTENT_ENCODING).then(|| "accept-encoding".into());
    names(named.chain(implied))
}

/// Names of fields, sorted, each once; `None` of none.
fn names(names: impl Iterator<Item = Box<str>>) -> Option<Fields> {
    let mut names: Vec<_> = names.collect();
    names.sort_unstable();
    names.dedup();
    (!names.is_empty()).then(|| Fields::new(names.into()))
}

/// The members of a list field, over all of its lines.
fn list(headers: &HeaderMap, name: header::HeaderName) -> impl Iterator<Item = &[u8]> {
    headers
        .get_all(name)
        .iter()
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|member| !member.is_empty())
}

/// A body that has no end to wait for.
fn is_stream(headers: &HeaderMap) -> bool {
    let Some(kind) = headers.get(header::CONTENT_TYPE) else { return false };
    [&b"text/event-stream"[..], b"multipart/x-mixed-replace", b"application/grpc"]
        .iter()
        .any(|stream| kind.as_bytes().get(..stream.len()).is_some_and(|kind| kind.eq_ignore_ascii_case(stream)))
}

/// A nonce is worth something only while nobody gets it twice.
fn has_nonce(headers: &HeaderMap) -> bool {
    ["content-security-policy", "content-security-policy-report-only"]
        .iter()
        .flat_map(|name| headers.get_all(*name))
        .any(|policy| policy.as_bytes().to_ascii_lowercase().windows(7).any(|part| part == b"'nonce-"))
}

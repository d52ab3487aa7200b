//! Asking the service whether what is stored is still what it would answer (RFC 9111 §4.3).
//!
//! A run that is to replace something with a validator carries it as a condition. A 304 then stands for the stored
//! response: its fields are brought up to date (§3.2), its age begins anew with the run, its body stays where it is.

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header, response::Parts};

use crate::{
    entry::Entry,
    freshness::Freshness,
    http::{
        cache_control::{age_header, http_date},
        conditional::{is_same_tag, is_tag},
        groups,
        policy::{Head, Policy},
        stored::{self, StoredResponse},
        unstored::Unstored,
    },
    judgement::{Class, Judgement},
    status::Detail,
};

/// What a 304 does not change: they describe content that it does not carry (§3.2).
const OF_THE_CONTENT: [HeaderName; 4] =
    [header::CONTENT_LENGTH, header::CONTENT_ENCODING, header::CONTENT_RANGE, header::TRANSFER_ENCODING];

/// What the service can be asked by, in its own words.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Validators<'a> {
    etag: Option<&'a HeaderValue>,
    modified: Option<&'a HeaderValue>,
}

impl<'a> Validators<'a> {
    /// Those of a response: a tag that is one, a date that is one. A condition is evaluated where the response would be a
    /// success (RFC 9110 §13.2.1), so that others have none.
    pub(crate) fn of(status: StatusCode, response: &'a HeaderMap) -> Self {
        if !status.is_success() {
            return Self::default();
        }
        let etag = response.get(header::ETAG).filter(|etag| is_tag(etag));
        let modified = response.get(header::LAST_MODIFIED).filter(|modified| http_date(modified).is_some());
        Self { etag, modified }
    }

    /// Whether a response has any.
    pub(crate) fn are_in(status: StatusCode, response: &HeaderMap) -> bool {
        let is_date = |modified| http_date(modified).is_some();
        status.is_success()
            && (response.get(header::ETAG).is_some_and(is_tag)
                || response.get(header::LAST_MODIFIED).is_some_and(is_date))
    }

    /// The same without the tag.
    pub(crate) fn without_tag(self) -> Self {
        Self { etag: None, ..self }
    }

    pub(crate) fn are_any(self) -> bool {
        self.etag.is_some() || self.modified.is_some()
    }

    /// Makes a request ask whether the response is still good. The entity tag decides where there is one; the date goes
    /// along for those who know dates alone (§4.3.1).
    pub(crate) fn ask(self, request: &mut HeaderMap) {
        if let Some(etag) = self.etag {
            request.insert(header::IF_NONE_MATCH, etag.clone());
        }
        if let Some(modified) = self.modified {
            request.insert(header::IF_MODIFIED_SINCE, modified.clone());
        }
    }

    /// Whether a 304 with these speaks of another representation than the one that was asked about (§4.3.4).
    fn are_of_another(self, asked: Self) -> bool {
        match (self.etag, asked.etag) {
            // A strong tag is of what has it, to the byte. What has a weak one or none does not become that.
            (Some(told), asked) if is_strong(told) => asked != Some(told),
            (Some(told), Some(asked)) => !is_same_tag(told, asked),
            _ => self.modified.zip(asked.modified).is_some_and(|(told, asked)| http_date(told) != http_date(asked)),
        }
    }
}

/// The stored response as a 304 leaves it, and the verdict on that.
pub(crate) fn freshen(
    entry: &Entry<StoredResponse>,
    mut head: Parts,
    authorized: bool,
    policy: &Policy,
    unstored: &Unstored,
    own: &Freshness,
) -> (Judgement, StoredResponse) {
    // We have asked about one representation. One that is spoken of by another name is not the one that we have: the one
    // who asked may have it, since it was confirmed, and it is neither updated nor kept.
    head.headers.entry(header::DATE).or_insert_with(stored::date);
    let is_of_another = Validators::of(StatusCode::OK, &head.headers).are_of_another(entry.value.validators());
    let told = StoredResponse::new(&head, &unstored.of(&head.headers, None));
    // Nor does one update it for all who speaks to one alone (§3.5).
    let is_for_one = authorized && !policy.lets_share(&head.headers) && head.extensions.get::<Freshness>().is_none();
    let updates = |name: &HeaderName| !is_of_another && !is_for_one && !OF_THE_CONTENT.contains(name);
    let is_told = |name: &HeaderName| updates(name) && told.fields().any(|(told, _)| told == name);
    let kept = entry.value.fields().filter(|(name, _)| !is_told(name));
    let of_told = told.fields().filter(|(name, _)| updates(name));
    let value = entry.value.with_fields(&kept.chain(of_told).collect::<Vec<_>>()).having_heard(told);

    // What was said beside the fields holds unless something else is said.
    head.extensions.get_or_insert_with(|| groups::beside(entry.tags(), entry.value.head()));
    let repeated = entry.judged.said && head.extensions.get::<Freshness>().is_none();
    if repeated {
        head.extensions.insert(*entry.freshness());
    }
    let mut headers: HeaderMap = value.fields().map(|(name, value)| (name.clone(), value.clone())).collect();
    headers.extend(value.own());
    if let Some(age) = head.headers.get(header::AGE) {
        headers.insert(header::AGE, age.clone());
    }
    let at_least = value.content().len() as u64;
    let mut judged = policy.judge(
        Head { status: value.status(), headers: &headers, extensions: &head.extensions, at_least, authorized },
        own,
    );
    judged.age = age_header(&head.headers);
    judged.drawn = repeated;
    if is_for_one {
        judged.refuse(Class::Personal { mark: false }, Detail::Credential);
    } else if is_of_another && judged.class == Class::Storable {
        judged.refuse(Class::Personal { mark: false }, Detail::Status);
    }
    (judged, value)
}

fn is_strong(etag: &HeaderValue) -> bool {
    etag.as_bytes().trim_ascii_start().starts_with(b"\"")
}

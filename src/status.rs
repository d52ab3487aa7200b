//! What happened to a request, in the words of RFC 9211: one closed vocabulary for the `Cache-Status` field, the
//! response extension and telemetry.

use std::fmt;

use crate::room::Room;

/// Room for a field's text on the stack.
pub(crate) type Text = Room<128>;

/// The greatest integer that a structured field holds (RFC 9651 §3.3.1).
const GREATEST: i64 = 999_999_999_999_999;

/// What the cache did for a response. Every response of an HTTP layer that is enabled carries one in its extensions.
///
/// ```
/// # use cacheback::{CacheStatus, Outcome};
/// # fn after(response: &http::Response<()>) {
/// if let Some(outcome) = response.extensions().get::<Outcome>() {
///     println!("{outcome}"); // hit; ttl=42
///     let waited = outcome.status() != CacheStatus::Hit;
/// }
/// # }
/// ```
///
/// Its `Display` gives the parameters of a `Cache-Status` member (RFC 9211 §2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Outcome {
    status: CacheStatus,
    ttl: Option<i64>,
    forward_status: Option<u16>,
    stored: bool,
    collapsed: bool,
    detail: Option<Detail>,
}

/// Whether a request was answered from what was stored, or why it went forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CacheStatus {
    /// Answered from what was stored: fresh, or stale at once ([`Outcome::is_stale`]).
    Hit,
    /// Went forward past the cache: it was not looked up.
    Bypass,
    /// Went forward because its method is not answered from a cache.
    Method,
    /// Nothing was stored for its key.
    UriMiss,
    /// Something was stored for its URI, and none of it for a request with these fields (RFC 9111 §4.1).
    VaryMiss,
    /// What was stored is too stale to be served before a run was tried.
    Stale,
    /// Something was stored that would have answered it, and the request asked for a new response: see
    /// [`ForceRefresh`](crate::ForceRefresh), and
    /// [`honor_request_directives`](crate::CachebackLayer::honor_request_directives).
    Request,
    /// Was neither answered from what was stored nor sent forward: it asked for nothing but what is stored, and nothing
    /// was that may answer it.
    Unsatisfied,
}

/// Writes the vocabulary down once: a variant, and the token that stands for it in the `detail` parameter.
macro_rules! details {
    ($($(#[$doc:meta])+ $variant:ident = $token:literal,)+) => {
        /// Why an outcome is what it is.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Detail {
            $($(#[$doc])+ $variant,)+
        }

        impl Detail {
            /// All of them.
            pub(crate) const ALL: &[Self] = &[$(Self::$variant),+];

            /// The token that stands in the `detail` parameter.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $token,)+
                }
            }
        }
    };
}

details! {
    // ---- why a request was not looked up ----
    /// It carries a credential that the key does not cover.
    Credential = "credential",
    /// It carries cookies that the key does not cover.
    Cookie = "cookie",
    /// It has content.
    Content = "content",
    /// It asks for another protocol.
    Upgrade = "upgrade",
    /// Its authority cannot be told: two that differ, or several `Host` lines.
    Authority = "authority",
    /// The key rules give it no key.
    NoKey = "no-key",
    /// The layer leaves it out.
    Excluded = "excluded",
    /// It asks for a part of the response.
    Range = "range",
    /// It is conditional in a way that the origin alone can decide (`If-Match`, `If-Unmodified-Since`).
    Precondition = "precondition",
    /// It asks not to be stored.
    RequestNoStore = "request-no-store",
    /// It will not have the service called.
    OnlyIfCached = "only-if-cached",
    /// It is a HEAD and nothing was stored for its GET.
    Head = "head",

    // ---- why a response was not stored ----
    /// `Cache-Control: no-store`.
    NoStore = "no-store",
    /// `Cache-Control: private`.
    Private = "private",
    /// `Cache-Control: no-cache`.
    NoCache = "no-cache",
    /// It sets a cookie.
    SetCookie = "set-cookie",
    /// `Vary: *`.
    VaryAny = "vary-any",
    /// It asks for, or speaks of, authentication.
    Authenticate = "authenticate",
    /// Its status is not one that is stored without explicit freshness, or not one that is ever stored.
    Status = "status",
    /// Nothing lets it live for any time.
    NoLifetime = "no-lifetime",
    /// Its body is over the cap.
    TooLarge = "too-large",
    /// Its body was not complete in time.
    SlowBody = "slow-body",
    /// Its body failed, or ended early.
    BodyFailed = "body-failed",
    /// It is a stream of events.
    EventStream = "event-stream",
    /// It is, or its request was, a stream of messages.
    Streaming = "streaming",
    /// Its content security policy holds a nonce.
    Nonce = "csp-nonce",
    /// It names the one origin that may read it, without `Vary: Origin`.
    AllowOrigin = "allow-origin",
    /// Nobody opted it in.
    NotOptedIn = "not-opted-in",
    /// Its handler said so.
    HandlerSaidNo = "handler",
    /// The layer's rule does not admit it.
    NotAdmitted = "not-admitted",
    /// It is a part of the whole.
    Partial = "partial",
    /// It was invalidated while it was made.
    Invalidated = "invalidated",
    /// A run that started later was stored before it.
    Superseded = "superseded",
    /// It would be kept in the shared store alone, and that cannot be asked.
    StoreDown = "store-down",

    // ---- why a response was served as it was ----
    /// The shared store held it: another instance has made it.
    Store = "store",
    /// The run failed, and the stale response may stand in.
    StaleIfError = "stale-if-error",
    /// Runs for this key failed lately; the next one is put off.
    BackOff = "back-off",
    /// The run took longer than a reader of a stale response is made to wait.
    Slow = "slow",
    /// The key is marked: its responses could not be shared lately, so requests do not wait for one another.
    HitForMiss = "hit-for-miss",
    /// Nothing is stored, and a placeholder stands in while a run behind it fetches what belongs there.
    Placeholder = "placeholder",
}

impl Outcome {
    pub(crate) const fn new(status: CacheStatus) -> Self {
        Self { status, ttl: None, forward_status: None, stored: false, collapsed: false, detail: None }
    }

    pub(crate) const fn ttl_of(mut self, seconds: i64) -> Self {
        self.ttl = Some(seconds);
        self
    }

    pub(crate) const fn forwarded(mut self, status: Option<u16>) -> Self {
        self.forward_status = status;
        self
    }

    pub(crate) const fn stored_if(mut self, stored: bool) -> Self {
        self.stored = stored;
        self
    }

    pub(crate) const fn collapsed_if(mut self, collapsed: bool) -> Self {
        self.collapsed = collapsed;
        self
    }

    pub(crate) const fn because(mut self, detail: Option<Detail>) -> Self {
        self.detail = detail;
        self
    }

    /// Whether the request was answered from what was stored, or why it went forward.
    #[must_use]
    pub const fn status(&self) -> CacheStatus {
        self.status
    }

    /// Whether the response was served stale.
    #[must_use]
    pub const fn is_stale(&self) -> bool {
        matches!(self.ttl, Some(ttl) if ttl < 0)
    }

    /// The remaining freshness in whole seconds, negative when stale.
    #[must_use]
    pub const fn ttl(&self) -> Option<i64> {
        self.ttl
    }

    /// The status code that the wrapped service answered, where it was asked for this request.
    #[must_use]
    pub const fn forward_status(&self) -> Option<u16> {
        self.forward_status
    }

    /// Whether the response was stored, or is being stored as its body streams.
    #[must_use]
    pub const fn is_stored(&self) -> bool {
        self.stored
    }

    /// Whether the request shared the run of another one.
    #[must_use]
    pub const fn is_collapsed(&self) -> bool {
        self.collapsed
    }

    /// Why, where there is more to say.
    #[must_use]
    pub const fn detail(&self) -> Option<Detail> {
        self.detail
    }

    /// Appends the parameters of the `Cache-Status` member, without the machinery of `fmt`: hits pay for it.
    /// Each follows a semicolon: the name of the cache goes before them.
    pub(crate) fn write(&self, out: &mut Text) {
        if self.status != CacheStatus::Unsatisfied {
            out.extend(b"; ");
            out.extend(self.status.as_str().as_bytes());
        }
        if let Some(status) = self.forward_status {
            out.extend(b"; fwd-status=");
            write_integer(out, i64::from(status));
        }
        if let Some(ttl) = self.ttl {
            out.extend(b"; ttl=");
            write_integer(out, ttl.clamp(-GREATEST, GREATEST));
        }
        if self.stored {
            out.extend(b"; stored");
        }
        if self.collapsed {
            out.extend(b"; collapsed");
        }
        if let Some(detail) = self.detail {
            out.extend(b"; detail=");
            out.extend(detail.as_str().as_bytes());
        }
    }
}

impl CacheStatus {
    /// The parameter of RFC 9211: `hit`, or `fwd` with its reason; empty where it is neither.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Bypass => "fwd=bypass",
            Self::Method => "fwd=method",
            Self::UriMiss => "fwd=uri-miss",
            Self::VaryMiss => "fwd=vary-miss",
            Self::Stale => "fwd=stale",
            Self::Request => "fwd=request",
            Self::Unsatisfied => "",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = Text::default();
        self.write(&mut out);
        f.write_str(String::from_utf8_lossy(out.as_slice()).trim_start_matches("; "))
    }
}

fn write_integer(out: &mut Text, value: i64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    let mut rest = value.unsigned_abs();
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if value < 0 {
        out.push(b'-');
    }
    out.extend(&digits[at..]);
}

#[cfg(test)]
mod tests;

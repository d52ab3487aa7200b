//! For the tests of those who cache: the auditor, which finds what of a request a handler reads though nobody keyed it.
//!
//! A handler behind a cache may answer by anything that it reads of a request: a field, a cookie, the client's address, a
//! value in the extensions. What it reads must be in the key or in `Vary`, or one reader gets what was made for another.
//! The layer cannot know what a handler reads. [`audit`] finds out: it runs a request again with each input changed in
//! turn, and fails by name where the response changes and nothing tells the two requests apart.
//!
//! ```
//! # #[cfg(feature = "axum")] mod axum_only {
//! use std::time::Duration;
//! use axum::{Router, body::Body, http::{HeaderMap, Request}, routing::get};
//! use cacheback::{CachebackLayer, testing::audit};
//!
//! async fn greet(headers: HeaderMap) -> &'static str {
//!     match headers.get("accept-language") {
//!         Some(language) if language == "de" => "Guten Tag",
//!         _ => "Good day",
//!     }
//! }
//!
//! fn app(layer: CachebackLayer) -> Router {
//!     Router::new().route("/greet", get(greet)).layer(layer)
//! }
//!
//! fn request() -> Request<Body> {
//!     Request::get("/greet").body(Body::empty()).expect("a sound request")
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # pub async fn test() -> Result<(), cacheback::testing::AuditError> {
//! // Whoever asks first decides in which language all are greeted. The audit knows:
//! let minute = CachebackLayer::new(Duration::from_secs(60));
//! let leak = audit(app(minute.clone()), request()).await.expect_err("nobody keyed it");
//! assert_eq!(leak.to_string(), "the body depends on `accept-language`, which neither the key nor `Vary` names");
//!
//! // A rule for the key mends it. (So does `Vary: accept-language` in the response.)
//! audit(app(minute.key_header("accept-language")), request()).await?;
//! # Ok(()) }
//! # }
//! # #[cfg(feature = "axum")] axum_only::test().unwrap();
//! ```
//!
//! # What is changed
//!
//! * Each field that is in the request: another value, and none.
//! * Some ninety fields that handlers like to read and that are not in it: `Accept-Language`, `User-Agent`, `Accept`,
//!   `Origin`, `Referer`, client hints, what proxies say of a client. The list is in `src/http/audit/well_read.rs`.
//! * Each cookie, the client's address (`ConnectInfo<SocketAddr>`, feature `axum`), the version of HTTP and the scheme.
//! * What the test lists: other fields, cookies, extensions, anything ([`Audit`]).
//!
//! Each by itself: what matters only together with something else is not found.
//!
//! # What is compared
//!
//! What would be stored: status, fields, body and trailers as they come to the layer, without the fields about one exchange
//! that it does not store, and without `Date`. What stands further out (compression, CORS) may do as it likes.
//!
//! The request is run unchanged three times first; words (letters, digits, `-` and `_`) that differ among these runs, as
//! counters, clocks and ids do, may differ in the changed ones too. A suspicion is confirmed by further runs, changed and
//! unchanged in turn. A response that leaves too little to compare makes the audit
//! [inconclusive](AuditErrorKind::Inconclusive).
//!
//! # What an audit does
//!
//! It calls the handler some hundred times, with all that the handler brings about. Nothing is looked up or
//! stored, and nothing invalidated, unless a listed input makes an unsafe method of the request's.

use std::{any, fmt, slice};

use http::{HeaderName, HeaderValue, Method, Request, Response, request::Parts};
use tower_service::Service;

use crate::{
    future::Call,
    http::audit::{Examination, Plan, Refusal, Trial, cookie, field, is_cookie_name},
    protocol::RunKind,
    status::Detail,
};

pub use crate::{
    http::audit::{Coverage, Input, Leak},
    store::local::LocalStore,
};

/// Audits a service for a request: an [`Audit`] without anything listed.
///
/// The service is the whole one, an axum `Router` with layers somewhere inside; the request is a GET (or a HEAD, which
/// is run as a GET) whose response is stored.
///
/// # Errors
///
/// If the response depends on something that nobody keyed ([`AuditErrorKind::Leak`]); or if that cannot be told, since
/// the response is not stored, or is another one each time.
pub async fn audit<S, B, R>(service: S, request: Request<B>) -> Result<Audited, AuditError>
where
    S: Service<Request<B>, Response = Response<R>> + Clone,
    B: Default,
{
    Audit::new().run(service, request).await
}

/// An audit of more inputs than the auditor knows of by itself.
///
/// ```
/// # #[cfg(feature = "axum")] mod axum_only {
/// use std::time::Duration;
/// use axum::{Extension, Router, body::Body, http::Request, routing::get};
/// use cacheback::{CachebackLayer, testing::Audit};
///
/// #[derive(Clone)]
/// struct Tenant(u32);
///
/// async fn home(Extension(Tenant(tenant)): Extension<Tenant>) -> String {
///     format!("the home of tenant {tenant}")
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # pub async fn test() {
/// let app: Router = Router::new().route("/", get(home)).layer(CachebackLayer::new(Duration::from_secs(60)));
/// let request = Request::get("/").extension(Tenant(1)).body(Body::empty()).expect("a sound request");
/// let leak = Audit::new().extension(Tenant(2)).run(app, request).await.expect_err("nobody keyed it");
/// assert!(leak.to_string().starts_with("the body depends on the extension "));
/// # }
/// # }
/// # #[cfg(feature = "axum")] axum_only::test();
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "an audit does nothing until it is run"]
pub struct Audit {
    listed: Vec<Trial>,
}

/// What an audit that found nothing has checked.
///
/// Its `Display` has a line for each input.
#[derive(Clone, Debug)]
pub struct Audited {
    inputs: Vec<(Input, Coverage)>,
}

/// An audit failed.
///
/// Match on [`AuditError::kind`]; the message is for people and may change.
pub struct AuditError {
    kind: AuditErrorKind,
    detail: Option<Detail>,
    leaks: Vec<Leak>,
}

/// What kind of failure an [`AuditError`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AuditErrorKind {
    /// The response depends on something that neither the key nor `Vary` names.
    Leak,
    /// The request goes past the cache.
    Bypassed,
    /// The response would not be stored.
    NotStored,
    /// Too much of the response changes by itself.
    Inconclusive,
    /// The request reached no layer that is enabled.
    NoLayer,
}

impl Audit {
    /// An audit of what the auditor knows by itself.
    pub fn new() -> Self {
        Self::default()
    }

    /// Tries this value of a request field as well.
    ///
    /// # Panics
    ///
    /// If it is no field name, or no field value.
    #[track_caller]
    pub fn header<N, V>(self, name: N, value: V) -> Self
    where
        N: TryInto<HeaderName>,
        V: TryInto<HeaderValue>,
    {
        let (Ok(name), Ok(value)) = (name.try_into(), value.try_into()) else {
            panic!("header: that is no name of a header field, or no value of one")
        };
        self.list(Trial::new(Input::Header(name.clone()), [field(name, value)]))
    }

    /// Tries this value of a cookie as well.
    ///
    /// # Panics
    ///
    /// If the name is no token, or the value cannot stand in a field.
    #[track_caller]
    pub fn cookie(self, name: &str, value: &str) -> Self {
        let Ok(value) = value.try_into() else { panic!("cookie({name:?}): that is no value of a cookie") };
        assert!(is_cookie_name(name), "cookie({name:?}): that is no cookie name");
        self.list(Trial::new(Input::Cookie(name.to_owned()), [cookie(name, Some(value))]))
    }

    /// Tries the request with this value in its extensions, and without any of its type.
    ///
    /// It is put there before the service is called. Where a middleware puts its own in that place, audit what is inside
    /// of that middleware.
    pub fn extension<T: Clone + Send + Sync + 'static>(self, value: T) -> Self {
        let insert = Trial::change(move |request| drop(request.extensions.insert(value.clone())));
        let remove = Trial::change(|request| drop(request.extensions.remove::<T>()));
        self.list(Trial::new(Input::Extension(any::type_name::<T>()), [insert, remove]))
    }

    /// Tries the request as this function changes it. The name is for the report.
    pub fn input(self, name: impl Into<String>, change: impl Fn(&mut Parts) + Send + Sync + 'static) -> Self {
        self.list(Trial::new(Input::Other(name.into()), [Trial::change(change)]))
    }

    fn list(mut self, trial: Trial) -> Self {
        self.listed.push(trial);
        self
    }

    /// Runs the audit. See [`audit`].
    ///
    /// # Errors
    ///
    /// As for [`audit`].
    pub async fn run<S, B, R>(self, service: S, request: Request<B>) -> Result<Audited, AuditError>
    where
        S: Service<Request<B>, Response = Response<R>> + Clone,
        B: Default,
    {
        let (request, _) = request.into_parts();
        if !matches!(request.method, Method::GET | Method::HEAD) {
            return Err(AuditError::new(AuditErrorKind::Bypassed, None));
        }
        let mut trials = Trial::all_of(&request);
        if trials.iter().all(|trial| trial.input != Input::ClientAddress) {
            trials.extend(Trial::client_address(&request));
        }
        for listed in self.listed {
            match trials.iter_mut().find(|trial| trial.input == listed.input) {
                Some(trial) => trial.changes.extend(listed.changes),
                None => trials.push(listed),
            }
        }

        let run = |request| {
            let call = Call::new(service.clone(), Request::from_parts(request, B::default()));
            async { drop(call.await) }
        };
        let plan = Plan { kind: RunKind::Foreground, unchanged: 3, confirmed: 4 };
        let mut examination = Examination::begin(run, request, plan).await.map_err(AuditError::refused)?;
        let (mut inputs, mut leaks) = (Vec::new(), Vec::new());
        for trial in trials {
            match examination.try_each(&trial).await {
                Ok(coverage) => inputs.push((trial.input, coverage)),
                Err(leak) => leaks.push(leak),
            }
        }
        if !leaks.is_empty() {
            Err(AuditError { kind: AuditErrorKind::Leak, detail: None, leaks })
        } else if !examination.is_steady() {
            Err(AuditError::new(AuditErrorKind::Inconclusive, None))
        } else {
            Ok(Audited { inputs })
        }
    }
}

impl Audited {
    /// Each input, and what keeps requests apart that differ in it.
    pub fn inputs(&self) -> impl Iterator<Item = (&Input, Coverage)> {
        self.inputs.iter().map(|(input, coverage)| (input, *coverage))
    }
}

impl AuditError {
    fn new(kind: AuditErrorKind, detail: Option<Detail>) -> Self {
        Self { kind, detail, leaks: Vec::new() }
    }

    fn refused(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NoLayer => Self::new(AuditErrorKind::NoLayer, None),
            Refusal::Bypassed(detail) => Self::new(AuditErrorKind::Bypassed, Some(detail)),
            Refusal::NotStored(detail) => Self::new(AuditErrorKind::NotStored, Some(detail)),
        }
    }

    /// What kind of failure this is.
    #[must_use]
    pub fn kind(&self) -> AuditErrorKind {
        self.kind
    }

    /// Why the request goes past the cache, or why its response would not be stored.
    #[must_use]
    pub fn detail(&self) -> Option<Detail> {
        self.detail
    }

    /// What the response depends on though nobody keyed it.
    pub fn leaks(&self) -> slice::Iter<'_, Leak> {
        self.leaks.iter()
    }
}

impl fmt::Display for Audited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (input, coverage) in &self.inputs {
            let said = match coverage {
                Coverage::Key => "the key names it",
                Coverage::Vary => "`Vary` names it",
                Coverage::Bypassed => "bypassed",
                Coverage::Hidden => "hidden from the handler",
                Coverage::NoDifference => "no difference",
            };
            writeln!(f, "{input}: {said}")?;
        }
        Ok(())
    }
}

impl fmt::Display for AuditError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let said = match self.kind {
            AuditErrorKind::Leak => "",
            AuditErrorKind::Bypassed => "there is nothing to audit: the request goes past the cache",
            AuditErrorKind::NotStored => "there is nothing to audit: the response would not be stored",
            AuditErrorKind::NoLayer => "there is nothing to audit: the request reached no layer that is enabled",
            AuditErrorKind::Inconclusive => {
                "inconclusive: the response changes from run to run in more than single words, though the request does not"
            }
        };
        f.write_str(said)?;
        if let Some(detail) = self.detail {
            write!(f, " ({})", detail.as_str())?;
        }
        for (index, leak) in self.leaks.iter().enumerate() {
            write!(f, "{}{leak}", if index > 0 { "; " } else { "" })?;
        }
        Ok(())
    }
}

/// As `Display`: this is what a test prints that unwraps.
impl fmt::Debug for AuditError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AuditError({self})")
    }
}

impl std::error::Error for AuditError {}

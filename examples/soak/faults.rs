//! What comes over a run of the origin: one in four fails in some way.

use http::StatusCode;

use crate::{figures::Count, pages::Route};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    Error,
    Panic,
    /// Slower than readers of stale answers like to wait.
    Slow,
    /// Slower than anybody is willing to wait.
    Hang,
    Status(StatusCode),
    Private,
    Cookie,
    LargeBody,
    SlowBody,
    BrokenBody,
    PanickingBody,
    /// Ends before the length that the head states.
    ShortBody,
}

impl Fault {
    pub(crate) fn draw(rng: &mut fastrand::Rng, route: Route) -> Self {
        match (route, rng.u8(..60)) {
            (Route::Calm, _) => Self::None,
            (_, 0) => Self::Error,
            (_, 1) => Self::Panic,
            (_, 2) => Self::Slow,
            (_, 3) => Self::Hang,
            // A typed service has no other ways.
            (Route::Typed, _) => Self::None,
            (_, 4) => Self::Status(StatusCode::INTERNAL_SERVER_ERROR),
            (_, 5) => Self::Status(StatusCode::SERVICE_UNAVAILABLE),
            (_, 6) => Self::Status(StatusCode::TOO_MANY_REQUESTS),
            (_, 7) => Self::Status(StatusCode::NOT_FOUND),
            (_, 8) => Self::Private,
            (_, 9) => Self::Cookie,
            (_, 10) => Self::LargeBody,
            (_, 11) => Self::SlowBody,
            (_, 12) => Self::BrokenBody,
            (_, 13) => Self::PanickingBody,
            (_, 14) => Self::ShortBody,
            _ => Self::None,
        }
    }

    pub(crate) fn is_personal(self) -> bool {
        matches!(self, Self::Private | Self::Cookie)
    }

    pub(crate) fn count(self) -> Option<Count> {
        Some(match self {
            Self::None => return None,
            Self::Error => Count::Errors,
            Self::Panic => Count::Panics,
            Self::Slow => Count::Slow,
            Self::Hang => Count::Hangs,
            Self::Status(StatusCode::NOT_FOUND) => Count::NotFound,
            Self::Status(StatusCode::TOO_MANY_REQUESTS) => Count::TooMany,
            Self::Status(_) => Count::ServerErrors,
            Self::Private => Count::Privates,
            Self::Cookie => Count::Cookies,
            Self::LargeBody => Count::LargeBodies,
            Self::SlowBody => Count::SlowBodies,
            Self::BrokenBody => Count::BrokenBodies,
            Self::PanickingBody => Count::PanickingBodies,
            Self::ShortBody => Count::ShortBodies,
        })
    }
}

//! What every answer says of itself: whose it is, which run made it, what was true when that run began.
//!
//! The stamp is a field of the head and the first line of the body; the last line of the body is a checksum. So a reader
//! knows a body that is not whole, and a head that has got another one's body.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use bytes::Bytes;
use cacheback::Freshness;

use crate::pages::{Page, Route};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) route: Route,
    pub(crate) page: Page,
    pub(crate) variant: usize,
    /// The one client that may see it, where it is not for everybody. Clients are numbered from 1.
    pub(crate) client: Option<u64>,
    pub(crate) run: u64,
    /// What was the version when the run began.
    pub(crate) version: u64,
    /// When that was, since the program began.
    pub(crate) began: Duration,
    pub(crate) life: Life,
    /// Put by hand, and by no run.
    pub(crate) put: bool,
    /// Its body ends before the length that its head states.
    pub(crate) short: bool,
}

/// For how long an answer may be given out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Life {
    pub(crate) fresh: Duration,
    pub(crate) stale: Duration,
    pub(crate) on_error: Duration,
}

impl Life {
    /// In milliseconds.
    pub(crate) const fn of(fresh: u64, stale: u64, on_error: u64) -> Self {
        let ms = Duration::from_millis;
        Self { fresh: ms(fresh), stale: ms(stale), on_error: ms(on_error) }
    }

    /// From this age on it must not be given out, whatever fails.
    pub(crate) fn gone(&self) -> Duration {
        self.fresh + self.stale.max(self.on_error)
    }

    pub(crate) fn has_windows(&self) -> bool {
        !self.stale.max(self.on_error).is_zero()
    }
}

impl From<Life> for Freshness {
    fn from(life: Life) -> Self {
        Self::exact(life.fresh).stale_while_revalidate(life.stale).stale_if_error(life.on_error)
    }
}

impl Stamp {
    /// As text: numbers.
    pub(crate) fn text(&self) -> String {
        let nanos = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let Life { fresh, stale, on_error } = self.life;
        [
            self.route as u64,
            self.page.0 as u64,
            self.variant as u64,
            self.client.unwrap_or(0),
            self.run,
            self.version,
            nanos(self.began),
            nanos(fresh),
            nanos(stale),
            nanos(on_error),
            u64::from(self.put),
            u64::from(self.short),
        ]
        .map(|number| number.to_string())
        .join(" ")
    }

    pub(crate) fn read(text: &str) -> Option<Self> {
        let mut numbers = text.split(' ').map(str::parse::<u64>);
        let mut next = || numbers.next()?.ok();
        Some(Self {
            route: *Route::ALL.get(usize::try_from(next()?).ok()?)?,
            page: Page(usize::try_from(next()?).ok()?),
            variant: usize::try_from(next()?).ok()?,
            client: Some(next()?).filter(|client| *client != 0),
            run: next()?,
            version: next()?,
            began: Duration::from_nanos(next()?),
            life: Life {
                fresh: Duration::from_nanos(next()?),
                stale: Duration::from_nanos(next()?),
                on_error: Duration::from_nanos(next()?),
            },
            put: next()? == 1,
            short: next()? == 1,
        })
    }

    /// A body with this stamp, of about this many bytes.
    pub(crate) fn body(&self, length: usize) -> Bytes {
        let filling = format!("run {} ", self.run);
        let mut body = format!("{}\n{}\n", self.text(), filling.repeat(length / filling.len()));
        body.push_str(&checksum(&body));
        body.into()
    }

    /// The stamp of a body, if the body is whole.
    pub(crate) fn of_body(body: &[u8]) -> Option<Self> {
        let body = std::str::from_utf8(body).ok()?;
        let sum = body.len().checked_sub(16)?;
        let (rest, sum) = body.split_at_checked(sum)?;
        if checksum(rest) == sum { Self::read(rest.lines().next()?) } else { None }
    }
}

/// 16 hexadecimal digits.
fn checksum(text: &str) -> String {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp() -> Stamp {
        let (began, life) = (Duration::from_nanos(5_000_000_001), Life::of(30, 40, 120));
        let (route, page, client) = (Route::Blue, Page(7), Some(3));
        Stamp { route, page, variant: 2, client, run: 11, version: 4, began, life, put: true, short: false }
    }

    #[test]
    fn a_body_tells_its_stamp() {
        assert_eq!(Stamp::read(&stamp().text()), Some(stamp()));
        assert_eq!(Stamp::of_body(&stamp().body(500)), Some(stamp()));
    }

    #[test]
    fn a_body_that_lost_or_changed_a_byte_tells_none() {
        let body = stamp().body(500);
        assert_eq!(Stamp::of_body(&body[..body.len() - 1]), None);
        assert_eq!(Stamp::of_body(&body[..40]), None);
        for at in [0, 100, body.len() - 1] {
            let mut changed = body.to_vec();
            changed[at] ^= 1;
            assert_eq!(Stamp::of_body(&changed), None);
        }
    }
}

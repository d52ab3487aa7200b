//! What must hold of every answer, whatever fails and whoever goes away.
//!
//! Times need no tolerance where an answer comes out of memory: the cache takes a run to begin before the origin's
//! first line, and looks at its clock after the client looked at it. So what is too old by the client's reckoning is too
//! old by the cache's, however the threads are scheduled. [`SLACK`] is given where that is not so.

use std::time::Duration;

use bytes::Bytes;
use cacheback::{CacheStatus, Detail, Outcome};
use http::response::Parts;

use crate::{
    clients::Sent,
    origin::{LONGEST, STAMP},
    pages::{Page, Route},
    stamp::Stamp,
    truth::{Floor, Truth},
};

/// What the scheduler of a busy machine may add to the time between two lines of a program. It counts for answers of
/// runs under way, whose end nobody sees, and for what was put by hand, which is stamped before it is put.
const SLACK: Duration = Duration::from_secs(2);

/// A request, and what it may count on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    pub(crate) route: Route,
    pub(crate) page: Page,
    /// That of the answers that it gets.
    pub(crate) variant: usize,
    pub(crate) client: u64,
    pub(crate) floor: Floor,
    pub(crate) sent: Sent,
}

impl Asked {
    /// Whether it asks for a run that begins after it.
    pub(crate) fn is_forced(&self) -> bool {
        matches!(self.sent, Sent::Forced | Sent::Refresh)
    }
}

/// Why it is wrong.
pub(crate) type Wrong = String;

/// An answer of an HTTP layer by its head: its stamp.
pub(crate) fn head(asked: &Asked, head: &Parts, outcome: Outcome, truth: &Truth) -> Result<Stamp, Wrong> {
    let stamp = head.headers.get(STAMP).and_then(|stamp| Stamp::read(stamp.to_str().ok()?));
    let stamp = stamp.ok_or_else(|| format!("an answer without a stamp: {head:?}"))?;
    is_for_the_one_who_asked(asked, &stamp)?;
    comes_from_where_it_says(asked, &stamp, outcome)?;
    is_young_enough(asked, &stamp, outcome)?;
    is_of_a_run_after_what_was_purged(asked, &stamp, truth)?;
    says_so_where_it_was_expired(asked, &stamp, outcome, truth)?;
    Ok(stamp)
}

/// The body of an answer that came to its end.
pub(crate) fn body(asked: &Asked, stamp: &Stamp, outcome: Outcome, body: &[u8]) -> Result<(), Wrong> {
    match Stamp::of_body(body) {
        None if asked.sent == Sent::Head && body.is_empty() => Ok(()),
        Some(own) if own == *stamp && !stamp.short => Ok(()),
        // Its head promised more. The one who asked may see what there is, and nobody else.
        Some(own) if own == *stamp && is_of_its_own_run(outcome) => Ok(()),
        Some(own) => Err(format!("the head of {stamp:?} with the body of {own:?} ({outcome})")),
        None => Err(format!("a body that ended without being whole: {} bytes of {stamp:?} ({outcome})", body.len())),
    }
}

/// The body of an answer that broke off: what came out of memory, or of another one's run, was whole before it was given
/// out.
pub(crate) fn unfinished(stamp: &Stamp, outcome: Outcome) -> Result<(), Wrong> {
    if is_of_its_own_run(outcome) { Ok(()) } else { Err(format!("a stored body failed: {stamp:?} ({outcome})")) }
}

/// An answer of the typed layer, which does not say where it comes from.
pub(crate) fn typed(asked: &Asked, answer: &Bytes, truth: &Truth) -> Result<Stamp, Wrong> {
    let stamp = Stamp::of_body(answer).ok_or_else(|| format!("an answer that is not whole: {answer:?}"))?;
    is_for_the_one_who_asked(asked, &stamp)?;
    is_of_a_run_after_what_was_purged(asked, &stamp, truth)?;
    // What cannot come out of memory comes from a run that went on when the request came.
    let allowed = if asked.is_forced() { Duration::ZERO } else { stamp.life.gone().max(LONGEST + SLACK) };
    if age(asked, &stamp) > allowed + slack(&stamp) {
        return Err(wrong(&format!("older than {allowed:?}"), asked, &stamp, "the typed layer"));
    }
    Ok(stamp)
}

/// Something that is stored, by whoever looked at it.
pub(crate) fn peeked(asked: &Asked, stamp: &Stamp, is_expired: bool, truth: &Truth) -> Result<(), Wrong> {
    is_for_the_one_who_asked(asked, stamp)?;
    is_of_a_run_after_what_was_purged(asked, stamp, truth)?;
    if version(stamp, truth) < asked.floor.expired && !is_expired {
        return Err(wrong("stored, and not as expired", asked, stamp, "peeked"));
    }
    Ok(())
}

/// Never another one's page, variant or personal answer.
fn is_for_the_one_who_asked(asked: &Asked, stamp: &Stamp) -> Result<(), Wrong> {
    let own = (stamp.route, stamp.page, stamp.variant) == (asked.route, asked.page, asked.variant);
    if own && stamp.client.is_none_or(|client| client == asked.client) {
        Ok(())
    } else {
        Err(wrong("meant for somebody else", asked, stamp, ""))
    }
}

/// A run of one's own began after one asked, and so did a forced one; what is personal is of such a run.
fn comes_from_where_it_says(asked: &Asked, stamp: &Stamp, outcome: Outcome) -> Result<(), Wrong> {
    let is_new = stamp.began + slack(stamp) >= asked.floor.now;
    let must_be_new = is_of_its_own_run(outcome) || asked.is_forced() || stamp.client.is_some();
    if must_be_new && !is_new {
        return Err(wrong("of a run that began before the request", asked, stamp, outcome));
    }
    if stamp.client.is_some() && !is_of_its_own_run(outcome) {
        return Err(wrong("personal and given out again", asked, stamp, outcome));
    }
    Ok(())
}

/// Not older than the horizons allow (P1, P2).
fn is_young_enough(asked: &Asked, stamp: &Stamp, outcome: Outcome) -> Result<(), Wrong> {
    let life = stamp.life;
    let allowed = match outcome.status() {
        CacheStatus::Hit if !outcome.is_stale() => life.fresh,
        CacheStatus::Hit if outcome.detail() == Some(Detail::BackOff) => life.gone(),
        CacheStatus::Hit => life.fresh + life.stale,
        _ if outcome.is_collapsed() => LONGEST + SLACK,
        _ if is_from_memory(outcome) => life.gone(),
        _ => return Ok(()),
    };
    if age(asked, stamp) < allowed + slack(stamp) {
        Ok(())
    } else {
        Err(wrong(&format!("older than {allowed:?}"), asked, stamp, outcome))
    }
}

/// Who comes after a purge, or after something was put, gets nothing of a run that began before (P30 to P33).
fn is_of_a_run_after_what_was_purged(asked: &Asked, stamp: &Stamp, truth: &Truth) -> Result<(), Wrong> {
    let version = version(stamp, truth);
    if version < asked.floor.purged {
        Err(wrong("of a run that began before a purge that was done", asked, stamp, ""))
    } else if version < asked.floor.put {
        Err(wrong("of a run that began before something was put", asked, stamp, ""))
    } else {
        Ok(())
    }
}

/// Who comes after an expiry gets an older answer out of memory only, marked as stale, and only if it may be stale (P34).
fn says_so_where_it_was_expired(asked: &Asked, stamp: &Stamp, outcome: Outcome, truth: &Truth) -> Result<(), Wrong> {
    let marked = outcome.is_stale() && is_from_memory(outcome) && stamp.life.has_windows();
    if version(stamp, truth) < asked.floor.expired && !marked {
        return Err(wrong("of a run that began before an expiry that was done", asked, stamp, outcome));
    }
    Ok(())
}

/// The version that counts: the one as the run began.
fn version(stamp: &Stamp, truth: &Truth) -> u64 {
    if stamp.put { truth.version_of_put(stamp.run) } else { stamp.version }
}

/// How old it was at least when it was given out.
fn age(asked: &Asked, stamp: &Stamp) -> Duration {
    asked.floor.now.saturating_sub(stamp.began)
}

/// What was put is stamped before it is put.
fn slack(stamp: &Stamp) -> Duration {
    if stamp.put { SLACK } else { Duration::ZERO }
}

/// Whether it was stored when the request came: a hit, or something stale in place of a run.
fn is_from_memory(outcome: Outcome) -> bool {
    outcome.status() == CacheStatus::Hit || is_stale_instead(outcome)
}

pub(crate) fn is_stale_instead(outcome: Outcome) -> bool {
    outcome.status() == CacheStatus::Stale && outcome.ttl().is_some() && !outcome.is_collapsed()
}

/// Whether the origin was called for this request alone, or for it first.
fn is_of_its_own_run(outcome: Outcome) -> bool {
    !is_from_memory(outcome) && !outcome.is_collapsed()
}

fn wrong(what: &str, asked: &Asked, stamp: &Stamp, outcome: impl std::fmt::Display) -> Wrong {
    format!("an answer {what}\n    asked {asked:?}\n    got   {stamp:?}\n    by    {outcome}")
}

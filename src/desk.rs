//! Where a run hands over what it has: to the one who leads, to those who follow, and at last to the shared store.

use std::{
    any::Any,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use tokio::sync::oneshot;

use crate::{
    consult::Whence, entry::Entry, flight::Lead, judgement::Judgement, shared::Run, status::Detail,
    store::tier::Afterwards,
};

/// What a run has to hand over, and to whom.
pub(crate) struct Desk<V, Request, Response, Error> {
    pub(crate) lead: Lead<V>,
    leader: Mutex<Option<Leader<V, Request, Response, Error>>>,
    pub(crate) afterwards: Mutex<Option<Box<Left<V>>>>,
}

/// How what a run has is handed to the one who leads.
type Leader<V, Request, Response, Error> = oneshot::Sender<Delivery<V, Request, Response, Error>>;

/// What is left to do, and that it is: noted while the run still counts as one, so that a drain misses neither.
pub(crate) type Left<V> = (Afterwards<V>, Run);

/// What the one who leads gets.
pub(crate) enum Delivery<V, Request, Response, Error> {
    Response {
        response: Response,
        status: Option<u16>,
        /// What is stored is better than this, if there is anything.
        failed: bool,
        stored: bool,
        detail: Option<Detail>,
    },
    Error(Error),
    Panic(Box<dyn Any + Send>),
    /// There is something that will do in place of a run. The request is still to be answered.
    Found(Box<Found<V, Request>>),
}

/// What was found in place of a run, where, and the request.
pub(crate) type Found<V, Request> = (Request, Arc<Entry<V>>, Whence);

impl<V, Request, Response, Error> Desk<V, Request, Response, Error> {
    pub(crate) fn new(lead: Lead<V>, leader: Option<Leader<V, Request, Response, Error>>) -> Self {
        Self { lead, leader: Mutex::new(leader), afterwards: Mutex::new(None) }
    }

    /// What is left to do in the shared store.
    pub(crate) fn left(&self) -> Option<Box<Left<V>>> {
        self.afterwards.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    pub(crate) fn hand_over(&self, response: Response, status: Option<u16>, judged: &Judgement, stored: bool) {
        let (failed, detail) = (judged.failed, judged.detail);
        self.deliver(Delivery::Response { response, status, failed, stored, detail });
    }

    /// How many lead and are still there: one or nobody.
    pub(crate) fn leads(&self) -> usize {
        let leader = self.leader.lock().unwrap_or_else(PoisonError::into_inner);
        usize::from(leader.as_ref().is_some_and(|leader| !leader.is_closed()))
    }

    /// Ready when nobody leads any more: the one who did has left, or has what there was to hand over.
    pub(crate) fn poll_left(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut leader = self.leader.lock().unwrap_or_else(PoisonError::into_inner);
        leader.as_mut().map_or(Poll::Ready(()), |leader| leader.poll_closed(cx))
    }

    /// Hands over to the one who leads, who may have gone.
    pub(crate) fn deliver(&self, delivery: Delivery<V, Request, Response, Error>) {
        let leader = self.leader.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(leader) = leader {
            let _gone = leader.send(delivery);
        }
    }
}

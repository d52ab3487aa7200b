//! A protocol that awaits what it keys by, as one must whose key is in the message.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
};

use tokio::sync::oneshot;
use tower::{Layer, Service, ServiceExt, service_fn};

use super::*;
use crate::{Cache, CachebackLayer, key::Key};

/// A request whose message arrives later.
type Incoming = oneshot::Receiver<u32>;

#[derive(Clone, Debug)]
struct ByMessage;

impl sealed::Sealed for ByMessage {}

impl Protocol for ByMessage {
    type Value = u32;
    type View = ();
    type Sight = ();
    type Spare = ();
    type After = ();

    fn variant(&self, _: &Fields, (): &(), _: &mut KeyBuf) {}

    fn weigh(&self, _: &u32) -> usize {
        4
    }
}

impl Prepare<Incoming> for ByMessage {
    type Request = u32;

    fn prepare(&self, request: Incoming, _: usize, _: &Freshness, _: &mut KeyBuf) -> Prepared<Self, u32> {
        Prepared::Later(Box::pin(async move {
            let mut key = KeyBuf::default();
            match request.await {
                Ok(message) => {
                    key.raw(&Key::from(message.to_string()));
                    (Prepared::Lookup(message, ()), key)
                }
                Err(_) => (Prepared::Forward(0, ()), key),
            }
        }))
    }

    fn variant_of(&self, _: &Fields, _: &u32, _: &mut KeyBuf) {}

    fn role(&self, (): &()) -> Role {
        Role::Lead
    }

    fn is_forced(&self, _: &Self::View) -> bool {
        false
    }

    fn force(&self, _: &mut Self::View) {}

    fn passed(&self, _: &Self::After) -> Option<Outcome> {
        None
    }

    fn spare(&self, _: &mut u32) {}

    fn project(&self, request: u32, _: RunKind, _: usize, _: Option<&Self::Value>) -> (u32, ()) {
        (request, ())
    }
}

impl Capture<u32> for ByMessage {
    type Response = u32;
    type Fill = Ready<Result<u32, Unfilled>>;

    fn judge(&self, _: &u32, (): &(), freshness: &Freshness) -> Judgement {
        Judgement::storable(*freshness)
    }

    fn pass(&self, response: u32) -> u32 {
        response
    }

    fn capture(&self, response: u32, _: &Judgement, _: impl FnOnce() -> Interest) -> Captured<u32, u32, Self::Fill> {
        // Read on, as a body would be.
        Captured::Filling(response, Box::pin(ready(Ok(response))))
    }

    fn deliver(&self, response: u32, (): &(), _: Outcome) -> u32 {
        response
    }

    fn replay(&self, entry: &Entry<u32>, _: Duration, (): &(), _: Outcome, (): ()) -> u32 {
        entry.value
    }

    fn finish(&self, response: u32, (): ()) -> (u32, Vec<Scope>) {
        (response, Vec::new())
    }

    fn status(&self, _: &u32) -> Option<u16> {
        None
    }

    fn is_failure(&self, _: &u32) -> bool {
        false
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_is_keyed_by_what_is_read_of_it() {
    let runs = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&runs);
    let service = service_fn(move |message: u32| {
        counter.fetch_add(1, SeqCst);
        ready(Ok::<_, Infallible>(message * 10))
    });
    let cache = <Cache>::builder().build_for();
    let layer = CachebackLayer::over(cache.clone(), ByMessage, Freshness::from(Duration::from_secs(60)));
    let mut service = layer.layer(service);
    let mut ask = |message: Option<u32>| {
        let (sender, incoming) = oneshot::channel();
        let answer = service.call(incoming);
        if let Some(message) = message {
            sender.send(message).expect("it is awaited");
        }
        answer
    };
    for (message, answer, ran) in [(Some(1), 10, 1), (Some(1), 10, 1), (Some(2), 20, 2), (None, 0, 3), (None, 0, 4)] {
        assert_eq!(ask(message).await, Ok(answer));
        cache.settled().await;
        assert_eq!(runs.load(SeqCst), ran, "{message:?}");
    }
    // Nothing is looked up before the message is there.
    let (sender, incoming) = oneshot::channel();
    let mut early = std::pin::pin!(service.clone().oneshot(incoming));
    assert!(early.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop())).is_pending());
    sender.send(2).expect("it is awaited");
    assert_eq!(early.await, Ok(20));
    assert_eq!(runs.load(SeqCst), 4);
}

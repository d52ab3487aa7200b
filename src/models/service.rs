//! What those see who call the service, with nothing left out but the runtime: its tasks are threads here.

use std::{
    convert::Infallible,
    future::pending,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    pin::Pin,
};

use http::{Request, Response, StatusCode};
use tokio::{sync::SetOnce, task};
use tower::{Layer as _, Service as _, service_fn, util::BoxCloneSyncService};

use super::*;
use crate::{Cache, CacheBuilder, Cacheback, CachebackLayer, Http, Placeholder, Scope, Tags, scope::Force};

/// A page, and how often it was shown.
#[derive(Default)]
struct Page {
    written: AtomicUsize,
    shown: AtomicUsize,
    open: SetOnce<()>,
}

type Shown = Result<Response<String>, Infallible>;

impl Page {
    async fn show(self: Arc<Self>) -> Shown {
        self.shown.fetch_add(1, SeqCst);
        let mut response = Response::new(String::new());
        response.headers_mut().insert("written", self.written.load(SeqCst).into());
        response.extensions_mut().insert(Tags::new(["page"]));
        Ok(response)
    }

    async fn show_slowly(self: Arc<Self>) -> Shown {
        task::yield_now().await;
        self.show().await
    }

    async fn miss_when_open(self: Arc<Self>) -> Shown {
        self.open.wait().await;
        let Ok(mut response) = self.show().await;
        *response.status_mut() = StatusCode::NOT_FOUND;
        Ok(response)
    }

    async fn show_at_first_and_when_open(self: Arc<Self>) -> Shown {
        if self.shown.load(SeqCst) > 0 {
            self.open.wait().await;
        }
        self.show().await
    }

    async fn hang(self: Arc<Self>) -> Shown {
        pending().await
    }

    async fn panic_at_first(self: Arc<Self>) -> Shown {
        if self.shown.fetch_add(1, SeqCst) == 0 {
            resume_unwind(Box::new("panicked"));
        }
        self.show().await
    }
}

/// Somebody who reads a page by way of a cache.
#[derive(Clone)]
struct Reader {
    layer: CachebackLayer,
    service: Cacheback<BoxCloneSyncService<Request<String>, Response<String>, Infallible>, Http>,
}

type Waiting = Pin<Box<dyn Future<Output = usize>>>;

impl Reader {
    fn new<F>(cache: &Cache, page: &Arc<Page>, show: fn(Arc<Page>) -> F) -> Self
    where
        F: Future<Output = Shown> + Send + 'static,
    {
        Self::of(cache.layer(Duration::from_secs(60)), page, show)
    }

    fn of<F>(layer: CachebackLayer, page: &Arc<Page>, show: fn(Arc<Page>) -> F) -> Self
    where
        F: Future<Output = Shown> + Send + 'static,
    {
        let page = Arc::clone(page);
        let origin = BoxCloneSyncService::new(service_fn(move |_| show(Arc::clone(&page))));
        let service = layer.layer(origin);
        Self { layer, service }
    }

    fn call(&self) -> Waiting {
        let response = self.service.clone().call(Request::default());
        Box::pin(async move { written(response.await) })
    }

    /// What is written on the page that is shown.
    fn read(&self) -> usize {
        block_on(self.call())
    }

    /// The same, by a run that starts now.
    fn refresh(&self) -> usize {
        written(block_on(self.service.refresh(Request::default())))
    }

    /// Has called, and has no answer yet.
    fn waits(&self) -> Waiting {
        let mut call = self.call();
        assert!(poll_elsewhere(&mut call).is_pending());
        call
    }
}

fn written<B>(shown: Result<Response<B>, Infallible>) -> usize {
    let Ok(response) = shown;
    response.headers()["written"].to_str().ok().and_then(|written| written.parse().ok()).expect("a number")
}

fn cache() -> CacheBuilder {
    Cache::builder().memory(64 << 10)
}

#[test] // P10
fn of_two_who_find_nothing_one_runs() {
    with_preemptions(3, || {
        let page = Arc::<Page>::default();
        let reader = Reader::new(&cache().build(), &page, Page::show);
        let other = reader.clone();
        let other = thread::spawn(move || other.read());
        reader.read();
        other.join().unwrap();
        assert_eq!(page.shown.load(SeqCst), 1);
    });
}

#[test] // P10, P82
fn of_two_who_find_nothing_but_a_placeholder_one_has_it_filled_in_behind() {
    with_preemptions(2, || {
        let (page, cache) = (Arc::<Page>::default(), cache().build());
        let placeholder = Response::builder().header("written", 7).body("").expect("a response");
        let layer = cache.layer(Duration::from_secs(60)).on_miss(Placeholder(placeholder));
        let reader = Reader::of(layer, &page, Page::show);
        let other = reader.clone();
        let other = thread::spawn(move || other.read());
        let read = [reader.read(), other.join().unwrap()];
        block_on(cache.settled());
        assert_eq!((reader.read(), page.shown.load(SeqCst)), (0, 1));
        assert!(read.contains(&7), "{read:?}");
    });
}

#[test] // P5, P10
fn of_two_who_find_it_stale_one_has_it_refreshed_behind() {
    with_preemptions(2, || {
        let (page, cache) = (Arc::<Page>::default(), cache().build());
        let reader = Reader::new(&cache, &page, Page::show);
        loom::stop_exploring();
        reader.read();
        block_on(cache.settled());
        page.written.store(1, SeqCst);
        block_on(tokio::time::advance(Duration::from_secs(61)));
        loom::explore();
        let other = reader.clone();
        let other = thread::spawn(move || other.read());
        reader.read();
        other.join().unwrap();
        block_on(cache.settled());
        assert_eq!(page.shown.load(SeqCst), 2);
        assert_eq!(reader.read(), 1);
    });
}

#[test] // P31, P34
fn what_is_expired_while_its_refresh_begins_is_refreshed_by_the_next_who_reads_it() {
    with_preemptions(2, || {
        let (page, cache) = (Arc::<Page>::default(), cache().build());
        let reader = Reader::new(&cache, &page, Page::show_at_first_and_when_open);
        loom::stop_exploring();
        reader.read();
        block_on(cache.settled());
        page.written.store(1, SeqCst);
        block_on(tokio::time::advance(Duration::from_secs(61)));
        loom::explore();
        let other = reader.clone();
        let other = thread::spawn(move || other.read());
        cache.invalidate(&Scope::uri("/").unwrap(), Force::Expire);
        other.join().unwrap();
        // The run of the other one is under way still, and may have begun too early.
        assert_eq!(reader.read(), 0);
        page.open.set(()).unwrap();
        block_on(cache.settled());
        assert_eq!(reader.read(), 1);
    });
}

#[test] // P11
fn one_who_follows_is_served_when_the_leader_goes() {
    for refreshes in [0, 1] {
        with_preemptions(2, move || {
            let page = Arc::<Page>::default();
            let reader = Reader::new(&cache().max_refreshes(refreshes).build(), &page, Page::show_slowly);
            let leaves = reader.waits();
            let leaves = thread::spawn(move || drop(leaves));
            reader.read();
            leaves.join().unwrap();
            // A run that nobody wants goes on where there is room for it. Else it is given up before it shows anything.
            assert_eq!(page.shown.load(SeqCst), 1);
        });
    }
}

#[test] // P11
fn a_run_that_nobody_wants_any_more_is_given_up() {
    with_preemptions(3, || {
        let (page, cache) = (Arc::<Page>::default(), cache().max_refreshes(0).build());
        let reader = Reader::new(&cache, &page, Page::hang);
        let leaves = reader.waits();
        let leaves = thread::spawn(move || drop(leaves));
        // This one comes and goes as well: it follows that run, or leads another one.
        drop(reader.waits());
        leaves.join().unwrap();
        block_on(cache.settled());
    });
}

#[test] // P12
fn a_panic_is_the_leaders_alone() {
    with_preemptions(2, || {
        let page = Arc::<Page>::default();
        let reader = Reader::new(&cache().build(), &page, Page::panic_at_first);
        let read = |reader: Reader| move || catch_unwind(AssertUnwindSafe(|| reader.read())).is_ok();
        let other = thread::spawn(read(reader.clone()));
        let served = [read(reader)(), other.join().unwrap()];
        assert_eq!(served.iter().filter(|served| **served).count(), 1);
    });
}

#[test] // P15
fn what_is_not_stored_is_for_all_who_came_aboard() {
    for leader in [|call| _ = block_on(call), drop] as [fn(Waiting); 2] {
        with_preemptions(3, move || {
            let page = Arc::<Page>::default();
            let reader = Reader::new(&cache().build(), &page, Page::miss_when_open);
            let (leads, follows) = (reader.waits(), reader.waits());
            page.open.set(()).unwrap();
            let leads = thread::spawn(move || leader(leads));
            block_on(follows);
            leads.join().unwrap();
            assert_eq!(page.shown.load(SeqCst), 1);
        });
    }
}

#[test] // P26
fn a_forced_run_starts_after_it_was_asked_for() {
    with_preemptions(2, || {
        let page = Arc::<Page>::default();
        let reader = Reader::new(&cache().build(), &page, Page::show);
        let writer = {
            let (page, reader) = (Arc::clone(&page), reader.clone());
            thread::spawn(move || {
                page.written.store(1, SeqCst);
                assert_eq!(reader.refresh(), 1);
            })
        };
        reader.read();
        writer.join().unwrap();
        assert_eq!(reader.read(), 1);
    });
}

#[test] // P33
fn what_is_put_beats_every_run_that_started_before_it() {
    for stays in [true, false] {
        with_preemptions(2, move || {
            let (page, cache) = (Arc::<Page>::default(), cache().build());
            let reader = Reader::new(&cache, &page, Page::show_slowly);
            let writer = {
                let (page, reader) = (Arc::clone(&page), reader.clone());
                thread::spawn(move || {
                    page.written.store(1, SeqCst);
                    let Ok(response) = block_on(page.show());
                    block_on(reader.layer.put(Request::<String>::default(), response)).unwrap();
                    if !stays {
                        // As if it had to make room for something else.
                        cache.shared().memory.invalidate(&Scope::everything(), Force::Purge, clock::now());
                    }
                    assert_eq!(reader.read(), 1);
                })
            };
            reader.read();
            writer.join().unwrap();
            assert_eq!(reader.read(), 1);
        });
    }
}

#[test] // P30, P31
fn who_comes_after_a_purge_sees_nothing_older() {
    for scope in [Scope::uri("/").unwrap(), Scope::tag("page"), Scope::everything()] {
        with_preemptions(2, move || {
            let (page, cache) = (Arc::<Page>::default(), cache().build());
            let reader = Reader::new(&cache, &page, Page::show);
            let writer = {
                let (page, reader, scope) = (Arc::clone(&page), reader.clone(), scope.clone());
                thread::spawn(move || {
                    page.written.store(1, SeqCst);
                    cache.invalidate(&scope, Force::Purge);
                    assert_eq!(reader.read(), 1);
                })
            };
            reader.read();
            writer.join().unwrap();
            assert_eq!(reader.read(), 1);
        });
    }
}

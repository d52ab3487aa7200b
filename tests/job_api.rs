//! What django-cacheback promises of a job, promised here.
//!
//! Above each test stand the tests of django-cacheback's own suite (`tests/test_*.py`) that it answers. A *job* is a typed
//! service behind a layer: its request is the arguments, calling it is `fetch`. Where an outcome differs a comment says so.
//!
//! `QuerySetGetJob` and `QuerySetFilterJob` (`TestQuerySetJob`, `TestQuerySetGetJob`, `TestQuerySetGetFilterJob`,
//! `test_key_django_model`) are `examples/database.rs`, which `tests/examples.rs` asks. These have no counterpart:
//!
//! * `test_init_kwargs`, `test_prepare_args`, `test_fetch`, `test_fetch_decorated`, `test_job_init_job_class`,
//!   `test_job_refresh_unkown_jobclass`, `TestGetJobClass`: a job is sent to another process there, as a name and what it was
//!   made with. Here a refresh is a call of the same service, and the compiler knows it.
//! * `TestEnqueueTask`: there is no queue. What takes its place is `max_refreshes` and `spawn_on`.
//! * `test_set_default_kw_arg`, `test_set_default_custom_kw_arg`, `test_set_kwarg`, `test_set_custom_kwarg`: `put` has a
//!   request and a response, and needs no name for one among the other's arguments.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test, and it may spawn")]

mod support;

use cacheback::{
    Cache, CacheStatus, Cacheback, CachebackLayer, CachedFunction, Codec, CodecError, Detail, Freshness, Key,
    Placeholder, Typed, testing::LocalStore,
};
use support::typed::{Act, Down, Gate, Get, Origin, TypedLayer, at_once, idle, layer, pass, secs};
use tokio::time::advance;
use tower::Layer;

type Job = Cacheback<Origin, Typed<Get, u64>>;

const FOO: Get = Get("foo");

/// `lifetime = 600` and `fetch_on_stale_threshold = 900`; `cache_ttl` is the last of the three.
const JOB: Freshness = Freshness::new(secs(600)).stale_while_revalidate(secs(300)).stale_if_error(secs(3_600));

/// A job whose results are the numbers of its runs.
fn job() -> (Job, Origin) {
    job_of(&layer().freshness(JOB))
}

fn job_of(layer: &TypedLayer) -> (Job, Origin) {
    let origin = Origin::new();
    (layer.layer(origin.service()), origin)
}

/// What is stored of it.
fn stored(job: &Job) -> Option<u64> {
    job.peek(&FOO).map(|stored| *stored.value())
}

// ---- get, on a miss ----

// test_get_miss_sync, test_miss_fetch
#[tokio::test(start_paused = true)] // P10
async fn get_on_a_miss_with_fetch_on_miss_waits_for_the_run_and_stores_what_it_brings() {
    let (job, origin) = job();
    assert_eq!(job.get(FOO).await, Ok(1));
    assert_eq!((stored(&job), origin.runs()), (Some(1), 1));
}

// test_get_miss_empty_async, test_miss_no_fetch, the decorator's test_hit; `empty()`
#[tokio::test(start_paused = true)] // P82
async fn get_on_a_miss_without_fetch_on_miss_is_empty_until_the_one_refresh_behind_it_has_ended() {
    let (job, origin) = job_of(&layer().freshness(JOB).on_miss(Placeholder(0)));
    let gate = Gate::new();
    origin.next_time(Act::AnswerAfter(gate.clone()));
    for _ in 0..3 {
        assert_eq!(at_once(job.get(FOO)).await, Ok(0));
        idle().await;
        assert_eq!((stored(&job), origin.runs()), (None, 1));
    }
    gate.open();
    job.cache().settled().await;
    assert_eq!(at_once(job.get(FOO)).await, Ok(1));
    assert_eq!((job.cache().stats().placeholders, origin.runs()), (3, 1));
}

// test_async_refresh: that is a `refresh` for which nobody waits
#[tokio::test(start_paused = true)] // P26
async fn async_refresh_is_a_refresh_in_a_task_of_its_own() {
    let (job, origin) = job();
    let refresh = tokio::spawn(job.refresh(FOO));
    assert_eq!((stored(&job), origin.runs()), (None, 0));
    assert_eq!(refresh.await.unwrap(), Ok(1));
    assert_eq!(job.get(FOO).await, Ok(1));
}

// ---- get, with something stored ----

// test_get_hit
#[tokio::test(start_paused = true)] // P3
async fn get_on_a_hit_is_what_is_stored_and_nothing_runs() {
    let (job, origin) = job();
    assert_eq!(job.get(FOO).await, Ok(1));
    pass(secs(300)).await;
    assert_eq!(at_once(job.get(FOO)).await, Ok(1));
    idle().await;
    assert_eq!((job.cache().stats().runs, origin.runs()), (0, 1));
}

// test_get_stale_async
#[tokio::test(start_paused = true)] // P5
async fn get_on_what_is_stale_is_that_at_once_and_what_is_new_once_the_refresh_has_ended() {
    let (job, origin) = job();
    let gate = Gate::new();
    assert_eq!(job.get(FOO).await, Ok(1));
    origin.next_time(Act::AnswerAfter(gate.clone()));
    pass(secs(840)).await;
    for _ in 0..3 {
        assert_eq!(at_once(job.get(FOO)).await, Ok(1));
    }
    gate.open();
    job.cache().settled().await;
    assert_eq!((at_once(job.get(FOO)).await, origin.runs()), (Ok(2), 2));
}

// test_get_stale_sync
#[tokio::test(start_paused = true)] // P6
async fn get_on_what_is_stale_beyond_the_threshold_waits_for_the_run() {
    let (job, origin) = job();
    assert_eq!(job.get(FOO).await, Ok(1));
    pass(secs(960)).await;
    assert_eq!((job.get(FOO).await, origin.runs()), (Ok(2), 2));
}

// test_should_stale_item_be_fetched_synchronously_no_threshold, …_reached, …_not_reached
#[tokio::test(start_paused = true)] // P6
async fn whether_a_stale_item_is_fetched_synchronously_is_asked_for_each_request() {
    let lasting = Freshness::new(secs(600)).stale_while_revalidate(secs(3_600));
    let layer = CachebackLayer::typed::<Get, u64>(|_| Key::from("foo"))
        .freshness(lasting)
        .max_stale(|get| (get.0 == "threshold").then_some(secs(300)));
    for (request, stale_for, result) in
        [("no threshold", 301, 1), ("threshold", 300, 1), ("threshold", 301, 2), ("threshold", 0, 1)]
    {
        layer.cache().purge(&Key::from("foo")).await.unwrap();
        let (job, _origin) = job_of(&layer);
        assert_eq!(job.get(FOO).await, Ok(1));
        advance(secs(600 + stale_for)).await;
        assert_eq!(at_once(job.get(Get(request))).await, Ok(result), "{request}, {stale_for}");
        job.cache().settled().await;
    }
}

// test_timeout. There the other refresh starts beside the one that hangs; here that one is aborted.
#[tokio::test(start_paused = true)] // P13
async fn refresh_timeout_lets_another_refresh_start() {
    let unsaid = || layer().freshness(JOB);
    // It is a minute unless told otherwise.
    for (layer, timeout) in [(unsaid(), secs(60)), (unsaid().refresh_timeout(secs(20)), secs(20))] {
        let (job, origin) = job_of(&layer);
        assert_eq!(job.get(FOO).await, Ok(1));
        origin.next_time(Act::Hang);
        pass(secs(600)).await;
        assert_eq!(at_once(job.get(FOO)).await, Ok(1));
        idle().await;
        pass(timeout - secs(1)).await;
        assert_eq!(at_once(job.get(FOO)).await, Ok(1));
        assert_eq!((origin.runs(), origin.under_way()), (2, 1), "{timeout:?}: not yet");
        pass(secs(1)).await;
        assert_eq!(origin.under_way(), 0, "{timeout:?}: the time is up");
        // Nothing runs for a while after a failure.
        pass(secs(1)).await;
        assert_eq!(at_once(job.get(FOO)).await, Ok(1));
        job.cache().settled().await;
        assert_eq!((at_once(job.get(FOO)).await, origin.runs()), (Ok(3), 3));
    }
}

// test_job_refresh_perform_error
#[tokio::test(start_paused = true)] // P22
async fn an_error_of_a_refresh_leaves_the_stale_item_and_is_told() {
    let (job, origin) = job();
    assert_eq!(job.get(FOO).await, Ok(1));
    origin.always(Act::Fail);
    pass(secs(600)).await;
    for _ in 0..2 {
        assert_eq!(at_once(job.get(FOO)).await, Ok(1));
        job.cache().settled().await;
    }
    assert_eq!((stored(&job), job.cache().stats().runs_failed), (Some(1), 1));
    // Beyond the threshold as well: whoever waits gets it in place of the error.
    pass(secs(600)).await;
    assert_eq!(job.get(FOO).await, Ok(1));
}

// `cache_ttl`. There each stale read stores the item anew, which then lives for another `cache_ttl`.
#[tokio::test(start_paused = true)] // P1, P2
async fn cache_ttl_is_renewed_by_no_read_and_by_no_refresh_that_fails() {
    let (job, origin) = job();
    assert_eq!(job.get(FOO).await, Ok(1));
    origin.always(Act::Fail);
    for _ in 0..419 {
        pass(secs(10)).await;
        assert_eq!(job.get(FOO).await, Ok(1));
    }
    pass(secs(10)).await;
    assert!(job.get(FOO).await.is_err(), "it is an hour past its lifetime");
    assert_eq!(stored(&job), None);
}

// ---- invalidate and delete ----

// test_invalidate_miss
#[tokio::test(start_paused = true)] // P34
async fn invalidate_on_a_miss_does_nothing() {
    let (job, origin) = job();
    assert_eq!(job.expire(&FOO).await.unwrap().entries, 0);
    idle().await;
    assert_eq!(origin.runs(), 0);
}

// test_invalidate_hit. There a refresh is queued at once; here the next reader brings it about.
#[tokio::test(start_paused = true)] // P34, P26
async fn invalidate_on_a_hit_has_the_next_reader_refresh_and_wait_for_nothing() {
    let (job, origin) = job();
    job.refresh(FOO).await.unwrap();
    assert_eq!(job.expire(&FOO).await.unwrap().entries, 1);
    idle().await;
    assert_eq!(origin.runs(), 1);
    assert_eq!(at_once(job.get(FOO)).await, Ok(1));
    job.cache().settled().await;
    assert_eq!((at_once(job.get(FOO)).await, origin.runs()), (Ok(2), 2));
}

// test_delete_miss, test_delete_hit
#[tokio::test(start_paused = true)] // P34
async fn delete_on_a_hit_and_on_a_miss_leaves_nothing() {
    let (job, _origin) = job();
    assert_eq!(job.purge(&FOO).await.unwrap().entries, 0);
    job.refresh(FOO).await.unwrap();
    assert_eq!(job.purge(&FOO).await.unwrap().entries, 1);
    assert_eq!(stored(&job), None);
    assert_eq!(job.get(FOO).await, Ok(2));
}

// ---- refresh, set and raw_get ----

// test_refresh, test_job_refresh
#[tokio::test(start_paused = true)] // P26
async fn refresh_runs_whatever_is_stored_and_stores_what_it_brings() {
    let (job, origin) = job();
    for run in 1..=2 {
        assert_eq!(job.refresh(FOO).await, Ok(run));
        assert_eq!((at_once(job.get(FOO)).await, origin.runs()), (Ok(run), run));
    }
}

// test_store, test_set, the decorator's test_set
#[tokio::test(start_paused = true)] // P33
async fn set_stores_what_get_is_answered_with_and_nothing_runs() {
    let (job, origin) = job();
    job.put(FOO, 77).await.unwrap();
    pass(secs(599)).await;
    assert_eq!((at_once(job.get(FOO)).await, origin.runs()), (Ok(77), 0));
}

// test_set_preset_cache
#[tokio::test(start_paused = true)] // P33
async fn set_takes_the_place_of_what_is_stored_and_lives_for_a_lifetime_of_its_own() {
    let (job, origin) = job();
    assert_eq!(job.get(FOO).await, Ok(1));
    pass(secs(500)).await;
    job.put(FOO, 77).await.unwrap();
    pass(secs(500)).await;
    assert_eq!((at_once(job.get(FOO)).await, origin.runs()), (Ok(77), 1));
    assert!(job.peek(&FOO).unwrap().is_fresh());
}

// test_raw_get, test_raw_get_empty
#[tokio::test(start_paused = true)] // P35
async fn raw_get_is_the_item_and_its_expiry_and_brings_nothing_about() {
    let (job, origin) = job();
    assert!(job.peek(&FOO).is_none());
    job.put(FOO, 77).await.unwrap();
    for (more, age, fresh) in [(0, 0, true), (599, 599, true), (1, 600, false)] {
        advance(secs(more)).await;
        let item = job.peek(&FOO).unwrap();
        assert_eq!((*item.value(), item.age(), item.freshness(), item.is_fresh()), (77, secs(age), JOB, fresh));
    }
    idle().await;
    assert_eq!(origin.runs(), 0);
}

// ---- where refreshes run ----

// test_async_refresh_task_fail. There a reader refreshes in his own time when the queue fails; here never.
#[tokio::test(start_paused = true)] // P24
async fn over_the_limit_of_refreshes_a_reader_gets_what_is_stale_and_it_is_counted() {
    let cache = Cache::builder().max_refreshes(0).build_for::<u64>();
    let (job, origin) = job_of(&layer().freshness(JOB).over_cache(&cache));
    // On a miss a reader waits for his run, which needs no place among refreshes.
    assert_eq!(job.get(FOO).await, Ok(1));
    pass(secs(600)).await;
    assert_eq!(at_once(job.get(FOO)).await, Ok(1));
    idle().await;
    assert_eq!((cache.stats().refreshes_dropped, origin.runs()), (1, 1));
}

// test_async_refresh_task_fail; Celery and RQ, `task_options`
#[tokio::test(start_paused = true)] // P27
async fn when_the_runtime_of_refreshes_is_gone_a_reader_gets_what_is_stale() {
    let background = tokio::runtime::Runtime::new().unwrap();
    let (job, origin) = job_of(&layer().freshness(JOB).spawn_on(background.handle().clone()));
    // Nobody may wait for a runtime's end in another one.
    std::thread::spawn(move || drop(background)).join().unwrap();
    assert_eq!(job.get(FOO).await, Ok(1));
    pass(secs(600)).await;
    assert_eq!(at_once(job.get(FOO)).await, Ok(1));
    idle().await;
    assert_eq!((origin.runs(), job.cache().stats().refreshes), (1, 0));
    // Now that this is known refreshes go on without it, in nobody's time.
    assert_eq!(at_once(job.get(FOO)).await, Ok(1));
    job.cache().settled().await;
    assert_eq!(at_once(job.get(FOO)).await, Ok(2));
}

// test_async_refresh_task_fail_sync_fail
#[tokio::test(start_paused = true)] // P81
async fn an_error_on_a_miss_is_the_readers_and_nothing_is_stored() {
    let (job, origin) = job();
    origin.next_time(Act::Fail);
    assert_eq!(job.get(FOO).await, Err(Down(1)));
    assert_eq!(stored(&job), None);
    assert_eq!(job.get(FOO).await, Ok(2));
}

// ---- how long an item lives ----

// test_expiry, test_init, test_init_defaults. The default is a minute here, and ten there.
#[tokio::test(start_paused = true)] // P93
async fn each_job_has_a_lifetime_of_its_own() {
    for (layer, lifetime) in [(layer(), 60), (layer().freshness(secs(30)), 30), (layer().freshness(secs(600)), 600)] {
        let (job, _origin) = job_of(&layer);
        assert_eq!(job.get(FOO).await, Ok(1));
        advance(secs(lifetime - 1)).await;
        assert!(job.peek(&FOO).unwrap().is_fresh());
        advance(secs(1)).await;
        assert!(!job.peek(&FOO).unwrap().is_fresh());
    }
}

// `expiry()` sees the arguments there; here it sees the result as well
#[tokio::test(start_paused = true)] // P81
async fn expiry_goes_by_arguments_and_by_result() {
    let layer = layer().freshness_by(|get, run| secs(get.0.len() as u64 * 100 + run));
    let (job, _origin) = job_of(&layer);
    for (request, lifetime) in [(Get("foo"), 301), (Get("fo"), 202)] {
        job.get(request).await.unwrap();
        let item = job.peek(&request).unwrap();
        assert_eq!(item.freshness(), Freshness::new(secs(lifetime)));
    }
}

// ---- keys and caches ----

// test_key_no_args_no_kwargs, test_key_args_no_kwargs, test_key_no_args_kwargs, test_key_args_kwargs
#[tokio::test(start_paused = true)] // P60
async fn key_tells_arguments_apart_and_knows_equal_ones_again() {
    #[derive(Clone, Debug, PartialEq)]
    struct Arguments {
        positional: &'static [u32],
        named: &'static [(&'static str, &'static str)],
    }
    let all = [
        Arguments { positional: &[], named: &[] },
        Arguments { positional: &[1, 2, 3], named: &[] },
        Arguments { positional: &[1, 2], named: &[] },
        Arguments { positional: &[], named: &[("foo", "bar")] },
        Arguments { positional: &[1, 2], named: &[("foo", "bar"), ("bar", "baz")] },
    ];
    let key = |Arguments { positional, named }: &Arguments| Key::from(format!("{positional:?}, {named:?}"));
    let job = CachebackLayer::typed::<Arguments, Arguments>(key).function(async |arguments| Ok::<_, Down>(arguments));
    for arguments in all.iter().chain(&all) {
        assert_eq!(job.get(arguments.clone()).await.as_ref(), Ok(arguments));
    }
    let stats = job.cache().stats();
    assert_eq!((stats.keys, stats.misses, stats.hits), (5, 5, 5));
}

// An unhashable argument is an error there; here the key function says what to do with it
#[tokio::test(start_paused = true)] // P17
async fn arguments_without_a_key_go_past_the_cache() {
    let layer = CachebackLayer::typed::<Get, u64>(|get| (get.0 != "no key").then(|| Key::from(get.0)));
    let (job, origin) = job_of(&layer);
    for run in 1..=2 {
        assert_eq!(job.get(Get("no key")).await, Ok(run));
    }
    let stats = job.cache().stats();
    assert_eq!((stats.bypassed_for(Detail::NoKey), stats.keys, origin.runs()), (2, 0, 2));
}

// test_init, test_get_uses_cache_alias, test_cache_alias
#[tokio::test(start_paused = true)] // P93
async fn a_job_stores_in_the_cache_that_it_is_given_and_in_no_other() {
    let (default, secondary) = (Cache::builder().build_for::<u64>(), Cache::builder().build_for::<u64>());
    let (job, _origin) = job_of(&layer().freshness(JOB).over_cache(&secondary));
    assert_eq!(job.get(FOO).await, Ok(1));
    assert_eq!((default.peek(Key::from("foo")).len(), secondary.peek(Key::from("foo")).len()), (0, 1));
}

/// A number as bytes.
struct Bytes;

impl Codec<u64> for Bytes {
    fn encode(&self, value: &u64) -> Result<Vec<u8>, CodecError> {
        Ok(value.to_be_bytes().into())
    }

    fn decode(&self, bytes: &[u8]) -> Result<u64, CodecError> {
        Ok(u64::from_be_bytes(bytes.try_into()?))
    }
}

// test_store_verify_fail, test_store_no_verify_fail. A write that fails is an error of the reader's there, by default.
#[tokio::test(start_paused = true)] // P74
async fn a_write_that_fails_is_counted_and_no_readers_error() {
    let store = LocalStore::new();
    let (job, _origin) = job_of(&layer().freshness(JOB).store(store.clone(), Bytes));
    store.fail(true);
    assert_eq!(job.get(FOO).await, Ok(1));
    job.cache().settled().await;
    assert!(job.cache().stats().store_failures > 0);
    assert_eq!((store.records(), at_once(job.get(FOO)).await), (0, Ok(1)));
}

// ---- the decorator, and what readers are given ----

/// An application's state has room for it.
#[derive(Clone)]
struct Application {
    greet: CachedFunction<&'static str, String, Down>,
}

async fn greet(whom: &'static str) -> Result<String, Down> {
    Ok(format!("hello, {whom}"))
}

// test_job_init, the decorator's test_miss_fetch and test_hit
#[tokio::test(start_paused = true)] // P81
async fn a_decorated_function_is_called_like_the_function_and_has_the_methods_of_a_job() {
    let layer = CachebackLayer::typed::<&'static str, String>(|whom| Key::from(*whom)).freshness(secs(30));
    let application = Application { greet: layer.function(greet) };
    let clone = application.clone();
    assert_eq!(application.greet.get("foo").await.unwrap(), "hello, foo");
    assert_eq!(clone.greet.get("foo").await.unwrap(), "hello, foo");
    assert_eq!(clone.greet.cache().stats().hits, 1);
    clone.greet.put("foo", "by hand".into()).await.unwrap();
    assert_eq!(application.greet.get("foo").await.unwrap(), "by hand");
    assert_eq!(clone.greet.peek(&"foo").unwrap().freshness(), Freshness::new(secs(30)));
}

// `process_result(result, call, cache_status, sync_fetch)`
#[tokio::test(start_paused = true)] // P81
async fn process_result_sees_what_happened_and_touches_the_readers_copy_alone() {
    // Whether it was stale, or waited for, shows in the reader's copy.
    let layer = layer().freshness(JOB).on_outcome(|run, outcome| {
        *run += match outcome.status() {
            CacheStatus::UriMiss => 100,
            CacheStatus::Hit if outcome.is_stale() => 300,
            CacheStatus::Hit => 200,
            _ => 900,
        }
    });
    let (job, _origin) = job_of(&layer);
    assert_eq!(job.get(FOO).await, Ok(101));
    assert_eq!(job.get(FOO).await, Ok(201));
    pass(secs(600)).await;
    assert_eq!(job.get(FOO).await, Ok(301));
    job.cache().settled().await;
    assert_eq!((stored(&job), job.get(FOO).await), (Some(2), Ok(202)));
}

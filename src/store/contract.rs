//! What every store promises, asked of each: one suite, run once per store and never copied.

use std::{
    sync::{Arc, Mutex, Weak},
    time::Duration,
};

use bytes::Bytes;

use crate::{
    clock,
    entry::Course,
    key::Key,
    scope::Force,
    scope::Scope,
    store::{Leasing, Left, Listener, Record, Saved, Since, Store, local::LocalStore},
    tags::Tags,
};

const HOUR: Duration = Duration::from_secs(3_600);

fn record(bytes: &'static [u8], tags: &[&str], time_to_live: Duration) -> Record {
    Record { bytes: Bytes::from_static(bytes), tags: Tags::new(tags.iter().copied()), time_to_live }
}

async fn begin(store: &dyn Store, course: &Course) -> Since {
    store.claim(course, Leasing::Unwanted).await.unwrap().since
}

async fn found(store: &dyn Store, course: &Course) -> Option<Bytes> {
    Some(store.fetch(course).await.unwrap()?.bytes)
}

async fn save(store: &dyn Store, course: &Course, record: Record) {
    let since = begin(store, course).await;
    assert_eq!(store.save(course, record, &since).await.unwrap(), Saved::Kept);
}

async fn invalidate(store: &dyn Store, scope: &Scope) {
    let nobody = store.join(Weak::<Heard>::new());
    store.invalidate(scope, Force::Purge, &nobody).await.unwrap();
}

/// What a cache has heard that others invalidated.
#[derive(Default)]
struct Heard(Mutex<Vec<(Scope, Force)>>);

impl Heard {
    fn all(&self) -> Vec<(Scope, Force)> {
        self.0.lock().unwrap().clone()
    }
}

impl Listener for Heard {
    fn invalidated(&self, scope: &Scope, force: Force) {
        self.0.lock().unwrap().push((scope.clone(), force));
    }
}

/// Waits until something holds: what one does the others hear of in a moment.
async fn until(holds: impl Fn() -> bool) {
    for _ in 0..2_000 {
        if holds() {
            return;
        }
        clock::sleep(Duration::from_millis(5)).await;
    }
    panic!("this never happens");
}

/// The suite. `store` and `other` are two instances' views of one store, which is empty. What is to be brief lives for 20
/// moments: one is as long as whoever asks may be late.
pub(super) async fn keeps_its_promises(store: &dyn Store, other: &dyn Store, moment: Duration) {
    let six_of_twenty_are_over = async |course: &Course| {
        let age = other.fetch(course).await.unwrap().unwrap().age;
        assert!((moment * 5..moment * 20).contains(&age), "{age:?}");
        clock::sleep(moment * 15).await;
        assert_eq!(found(store, course).await, None);
    };
    let course = |key, variant: Option<&str>| Course {
        key: Key::from(key),
        variant: variant.map(|values| Arc::new(values.as_bytes().into())),
    };
    let [a, b] = ["a", "b"].map(|key| course(key, None));

    // 1: what is saved is found, byte for byte and by everybody; another key has nothing to do with it.
    assert_eq!(found(store, &a).await, None);
    save(store, &a, record(b"\0\xff", &["t"], HOUR)).await;
    assert_eq!(found(other, &a).await.as_deref(), Some(&b"\0\xff"[..]));
    assert_eq!(found(other, &b).await, None);
    save(store, &a, record(b"second", &["t"], HOUR)).await;
    assert_eq!(found(store, &a).await.as_deref(), Some(&b"second"[..]));

    // So are variants of one key.
    let [none, empty, other_values] = [None, Some(""), Some("v")].map(|values| course("c", values));
    save(store, &none, record(b"none", &[], HOUR)).await;
    save(store, &empty, record(b"empty", &[], HOUR)).await;
    assert_eq!(found(other, &none).await.as_deref(), Some(&b"none"[..]));
    assert_eq!(found(other, &empty).await.as_deref(), Some(&b"empty"[..]));
    assert_eq!(found(other, &other_values).await, None);
    invalidate(store, &Scope::from(&none.key)).await;
    assert_eq!((found(other, &none).await, found(other, &empty).await), (None, None));

    // 2: a record is gone once its time is over; less than a second is not for ever. It says how long it is there.
    save(store, &b, record(b"brief", &[], moment * 20)).await;
    clock::sleep(moment * 6).await;
    six_of_twenty_are_over(&b).await;

    // 3: an invalidation reaches what it names, everywhere, and nothing else; what began before it is not saved.
    for scope in [Scope::from(&a.key), Scope::tag("t"), Scope::everything()] {
        save(store, &b, record(b"other", &["u"], HOUR)).await;
        save(store, &a, record(b"again", &["t"], HOUR)).await;
        let (late, unreached) = (begin(store, &a).await, begin(store, &b).await);
        invalidate(other, &scope).await;
        let all = scope == Scope::everything();
        assert_eq!(found(store, &a).await, None, "{scope:?}");
        assert_eq!(found(store, &b).await.is_none(), all, "{scope:?}");
        assert_eq!(store.save(&a, record(b"late", &["t"], HOUR), &late).await.unwrap(), Saved::Voided, "{scope:?}");
        store.save(&b, record(b"in time", &["u"], HOUR), &unreached).await.unwrap();
        assert_eq!(found(other, &a).await, None, "{scope:?}");
        assert_eq!(found(other, &b).await.is_none(), all, "{scope:?}");
        save(store, &a, record(b"new", &["t"], HOUR)).await;
        assert_eq!(found(other, &a).await.as_deref(), Some(&b"new"[..]), "{scope:?}");
    }

    // Its time counts from the run's beginning, however long the run and the saving take.
    let slow = begin(store, &b).await;
    clock::sleep(moment * 6).await;
    store.save(&b, record(b"slow", &[], moment * 20), &slow).await.unwrap();
    six_of_twenty_are_over(&b).await;

    // 4: of two runs the one that began later stays, whichever ends first.
    let (first, second) = (begin(store, &a).await, begin(other, &a).await);
    other.save(&a, record(b"later", &[], HOUR), &second).await.unwrap();
    store.save(&a, record(b"earlier", &[], HOUR), &first).await.unwrap();
    assert_eq!(found(store, &a).await.as_deref(), Some(&b"later"[..]));

    // 5: what is to be forgotten is, unless it came later; what other variants there are stays.
    let (variant, early) = (course("a", Some("v")), begin(store, &a).await);
    save(other, &variant, record(b"variant", &[], HOUR)).await;
    store.forget(&a, &early).await.unwrap();
    assert_eq!((found(other, &a).await, found(other, &variant).await.as_deref()), (None, Some(&b"variant"[..])));
    store.forget(&variant, &early).await.unwrap();
    assert_eq!(found(other, &variant).await.as_deref(), Some(&b"variant"[..]));

    one_has_the_lease(store, other).await;
    caches_hear_of_each_other(store, other).await;
}

/// 7: one has the lease, and those who wait for it are told when it ends.
async fn one_has_the_lease(store: &dyn Store, other: &dyn Store) {
    let course = Course { key: Key::from("leased"), variant: None };
    let wanted = async |store: &dyn Store| store.claim(&course, Leasing::Wanted).await.unwrap();
    let in_time = async |left| clock::timeout(Duration::from_secs(20), left).await;

    // By what is saved …
    let first = wanted(store).await;
    assert!(first.held.is_none());
    let left = wanted(other).await.held.expect("it is held");
    assert!(store.claim(&course, Leasing::Unwanted).await.unwrap().held.is_none());
    store.save(&course, record(b"leased", &[], HOUR), &first.since).await.unwrap();
    assert_eq!(in_time(left).await, Some(Left::Ended));
    let second = wanted(other).await;
    assert_eq!((second.held.is_none(), second.found.map(|found| found.bytes).as_deref()), (true, Some(&b"leased"[..])));
    // … what is over cannot end it …
    drop(first);
    let left = wanted(store).await.held.expect("it is held");
    // … by a run that ends without …
    drop(second.since);
    assert_eq!(in_time(left).await, Some(Left::Ended));
    // … by what another run saves that did not wait …
    let hung = wanted(store).await;
    let left = wanted(other).await.held.expect("it is held");
    save(other, &course, record(b"by another", &[], HOUR)).await;
    assert_eq!(in_time(left).await, Some(Left::Ended));
    assert!(hung.held.is_none());
    // … and by an instance that gives back what it has.
    let third = wanted(store).await;
    let left = wanted(other).await.held.expect("it is held");
    store.release().await.unwrap();
    assert_eq!(in_time(left).await, Some(Left::Lost), "its run goes on: somebody is to take over");
    // … and by an invalidation, after which the run is worth nothing.
    let fourth = wanted(store).await;
    assert!(fourth.held.is_none());
    let left = wanted(other).await.held.expect("it is held");
    invalidate(other, &Scope::from(&course.key)).await;
    assert_eq!(in_time(left).await, Some(Left::Lost));
    let fifth = wanted(other).await;
    assert!(fifth.held.is_none());
    // Those that ended late end nobody else's.
    drop((third, fourth));
    assert!(wanted(store).await.held.is_some());
}

/// 8: what one invalidates the others hear of, and it does not.
async fn caches_hear_of_each_other(store: &dyn Store, other: &dyn Store) {
    let heard: [Arc<Heard>; 3] = Default::default();
    let join = |store: &dyn Store, heard: &Arc<Heard>| {
        let heard: Arc<dyn Listener> = Arc::<Heard>::clone(heard);
        store.join(Arc::downgrade(&heard))
    };
    let [here, beside, there] = [join(store, &heard[0]), join(store, &heard[1]), join(other, &heard[2])];
    let all = [
        (store, here, Scope::tag("t"), Force::Purge),
        (store, beside, Scope::from(Key::from("k")), Force::Expire),
        (other, there, Scope::path_prefix("https://example.org/a").unwrap(), Force::Purge),
        (other, there, Scope::everything(), Force::Expire),
    ];
    for told in 0..all.len() {
        let (by, member, scope, force) = &all[told];
        by.invalidate(scope, *force, member).await.unwrap();
        for (own, heard) in [here, beside, there].iter().zip(&heard) {
            let others = all[..=told].iter().filter(|(_, by, ..)| by != own);
            let expected: Vec<_> = others.map(|(_, _, scope, force)| (scope.clone(), *force)).collect();
            until(|| heard.all() == expected).await;
        }
    }
}

#[tokio::test(start_paused = true)] // P71
async fn the_local_store_keeps_its_promises() {
    let store = LocalStore::new();
    keeps_its_promises(&store, &store.clone(), Duration::from_millis(10)).await;
    // 6: what was not carried out is an error.
    store.fail(true);
    let course = Course { key: Key::from("a"), variant: None };
    let member = store.join(Weak::<Heard>::new());
    assert!(store.fetch(&course).await.is_err() && store.claim(&course, Leasing::Wanted).await.is_err());
    assert!(store.invalidate(&Scope::everything(), Force::Purge, &member).await.is_err());
}

#[tokio::test(start_paused = true)] // P71
async fn a_run_that_outlives_what_is_remembered_is_not_saved() {
    let (store, course) = (LocalStore::new(), Course { key: Key::from("a"), variant: None });
    let hung = begin(&store, &course).await;
    for n in 0..5_000 {
        invalidate(&store, &Scope::tag(n.to_string())).await;
    }
    assert_eq!(store.save(&course, record(b"late", &[], HOUR), &hung).await.unwrap(), Saved::Voided);
    assert_eq!(found(&store, &course).await, None);
}

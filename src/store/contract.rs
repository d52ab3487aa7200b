//! What every store promises, asked of each: one suite, run once per store and never copied.

use std::time::Duration;

use bytes::Bytes;

use crate::{
    clock,
    entry::Course,
    key::Key,
    scope::{Scope, Tags},
    store::{Record, Since, Store, local::LocalStore},
};

const HOUR: Duration = Duration::from_secs(3_600);

fn record(bytes: &'static [u8], tags: &[&str], time_to_live: Duration) -> Record {
    Record { bytes: Bytes::from_static(bytes), tags: Tags::new(tags.iter().copied()), time_to_live }
}

async fn begin(store: &dyn Store, course: &Course) -> Since {
    store.fetch(course).await.unwrap().since
}

async fn found(store: &dyn Store, course: &Course) -> Option<Bytes> {
    Some(store.fetch(course).await.unwrap().found?.bytes)
}

async fn save(store: &dyn Store, course: &Course, record: Record) {
    store.save(course, record, begin(store, course).await).await.unwrap();
}

/// The suite. `store` and `other` are two instances' views of one store, which is empty.
async fn keeps_its_promises(store: &dyn Store, other: &dyn Store) {
    let course = |key, variant: Option<&str>| Course {
        key: Key::from(key),
        variant: variant.map(|values| values.as_bytes().into()),
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
    store.invalidate(&Scope::from(&none.key)).await.unwrap();
    assert_eq!((found(other, &none).await, found(other, &empty).await), (None, None));

    // 2: a record is gone once its time is over; less than a second is not for ever. It says how long it is there.
    save(store, &b, record(b"brief", &[], Duration::from_millis(200))).await;
    clock::sleep(Duration::from_millis(60)).await;
    let age = other.fetch(&b).await.unwrap().found.unwrap().age;
    assert!((Duration::from_millis(50)..Duration::from_millis(200)).contains(&age), "{age:?}");
    clock::sleep(Duration::from_millis(150)).await;
    assert_eq!(found(store, &b).await, None);

    // 3: an invalidation reaches what it names, everywhere, and nothing else; what began before it is not saved.
    for scope in [Scope::from(&a.key), Scope::tag("t"), Scope::everything()] {
        save(store, &b, record(b"other", &["u"], HOUR)).await;
        save(store, &a, record(b"again", &["t"], HOUR)).await;
        let (late, unreached) = (begin(store, &a).await, begin(store, &b).await);
        other.invalidate(&scope).await.unwrap();
        let all = scope == Scope::everything();
        assert_eq!(found(store, &a).await, None, "{scope:?}");
        assert_eq!(found(store, &b).await.is_none(), all, "{scope:?}");
        store.save(&a, record(b"late", &["t"], HOUR), late).await.unwrap();
        store.save(&b, record(b"in time", &["u"], HOUR), unreached).await.unwrap();
        assert_eq!(found(other, &a).await, None, "{scope:?}");
        assert_eq!(found(other, &b).await.is_none(), all, "{scope:?}");
        save(store, &a, record(b"new", &["t"], HOUR)).await;
        assert_eq!(found(other, &a).await.as_deref(), Some(&b"new"[..]), "{scope:?}");
    }

    // Its time counts from the run's beginning, however long the run and the saving take.
    let slow = begin(store, &b).await;
    clock::sleep(Duration::from_millis(60)).await;
    store.save(&b, record(b"slow", &[], Duration::from_millis(200)), slow).await.unwrap();
    let age = other.fetch(&b).await.unwrap().found.unwrap().age;
    assert!((Duration::from_millis(50)..Duration::from_millis(200)).contains(&age), "{age:?}");
    clock::sleep(Duration::from_millis(150)).await;
    assert_eq!(found(store, &b).await, None);

    // 4: of two runs the one that began later stays, whichever ends first.
    let (first, second) = (begin(store, &a).await, begin(other, &a).await);
    other.save(&a, record(b"later", &[], HOUR), second).await.unwrap();
    store.save(&a, record(b"earlier", &[], HOUR), first).await.unwrap();
    assert_eq!(found(store, &a).await.as_deref(), Some(&b"later"[..]));

    // 5: what is to be forgotten is, with all variants, unless it came later.
    let (variant, early) = (course("a", Some("v")), begin(store, &a).await);
    save(other, &variant, record(b"newer", &[], HOUR)).await;
    store.forget(&a.key, early).await.unwrap();
    assert_eq!((found(other, &a).await, found(other, &variant).await.as_deref()), (None, Some(&b"newer"[..])));
    store.forget(&a.key, begin(store, &a).await).await.unwrap();
    assert_eq!(found(other, &variant).await, None);
}

#[tokio::test(start_paused = true)] // P71
async fn the_local_store_keeps_its_promises() {
    let store = LocalStore::new();
    keeps_its_promises(&store, &store.clone()).await;
    // 6: what was not carried out is an error.
    store.fail(true);
    let course = Course { key: Key::from("a"), variant: None };
    assert!(store.fetch(&course).await.is_err() && store.invalidate(&Scope::everything()).await.is_err());
}

#[tokio::test(start_paused = true)] // P71
async fn a_run_that_outlives_what_is_remembered_is_not_saved() {
    let (store, course) = (LocalStore::new(), Course { key: Key::from("a"), variant: None });
    let hung = begin(&store, &course).await;
    for n in 0..5_000 {
        store.invalidate(&Scope::tag(n.to_string())).await.unwrap();
    }
    store.save(&course, record(b"late", &[], HOUR), hung).await.unwrap();
    assert_eq!(found(&store, &course).await, None);
}

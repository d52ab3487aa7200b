//! What every store promises, asked of each: one suite, run once per store and never copied.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use super::{Record, Store, fake::Fake};
use crate::{
    Cache, ErrorKind, clock,
    key::Key,
    scope::{Scope, Tags},
};

const HOUR: Duration = Duration::from_secs(3_600);

fn record(bytes: &'static [u8], tags: &[&str], time_to_live: Duration) -> Record {
    Record { bytes: Bytes::from_static(bytes), tags: Tags::new(tags.iter().copied()), time_to_live }
}

/// The suite. `store` and `other` are two instances' views of one store, which is empty.
async fn keeps_its_promises(store: &dyn Store, other: &dyn Store) {
    let [a, b] = ["a", "b"].map(Key::from);

    // 1: what is saved is loaded, byte for byte and by everybody; another key has nothing to do with it.
    assert_eq!(store.load(&a).await.unwrap(), None);
    store.save(&a, record(b"\0\xff", &["t"], HOUR)).await.unwrap();
    assert_eq!(other.load(&a).await.unwrap().as_deref(), Some(&b"\0\xff"[..]));
    assert_eq!(other.load(&b).await.unwrap(), None);
    store.save(&a, record(b"second", &["t"], HOUR)).await.unwrap();
    assert_eq!(store.load(&a).await.unwrap().as_deref(), Some(&b"second"[..]));

    // 2: a record is gone once its time is over; less than a second is not for ever.
    store.save(&b, record(b"brief", &[], Duration::from_millis(1))).await.unwrap();
    clock::sleep(Duration::from_millis(2)).await;
    assert_eq!(store.load(&b).await.unwrap(), None);

    // 3: an invalidation reaches what it names, everywhere, and nothing else.
    store.save(&b, record(b"other", &["u"], HOUR)).await.unwrap();
    for scope in [Scope::from(&a), Scope::tag("t"), Scope::everything()] {
        store.save(&a, record(b"again", &["t"], HOUR)).await.unwrap();
        other.invalidate(&scope).await.unwrap();
        assert_eq!(store.load(&a).await.unwrap(), None, "{scope:?}");
        assert_eq!(store.load(&b).await.unwrap().is_none(), scope == Scope::everything(), "{scope:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_fake_keeps_its_promises() {
    let store = Fake::default();
    keeps_its_promises(&store, &store.another()).await;
    // 4: what was not carried out is an error.
    store.lose(true);
    assert!(store.load(&Key::from("a")).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_purge_is_told_to_the_store_and_an_error_says_that_it_was_not_heard() {
    let store = Arc::new(Fake::default());
    let cache = Cache::builder().store(Arc::clone(&store) as Arc<dyn Store>).build();
    store.delay(HOUR);
    cache.purge_tag("t").await.unwrap();
    assert_eq!(store.operations.load(std::sync::atomic::Ordering::SeqCst), 1);
    store.lose(true);
    assert_eq!(cache.purge_tag("t").await.unwrap_err().kind(), ErrorKind::Store);
    assert_eq!(cache.purge_path("no slash").await.unwrap_err().kind(), ErrorKind::Scope);
}

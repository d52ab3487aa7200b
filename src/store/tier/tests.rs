//! What a store gives back that is no record; and what is owed to it.

use super::*;
use crate::{
    entry::{Early, Generation},
    stats::Gauges,
    store::local::LocalStore,
};

struct Text;

struct Deaf;

impl Listener for Deaf {
    fn invalidated(&self, _: &Scope, _: Force) {}
}

impl Codec<String> for Text {
    fn encode(&self, value: &String) -> Result<Vec<u8>, CodecError> {
        Ok(value.clone().into_bytes())
    }

    fn decode(&self, bytes: &[u8]) -> Result<String, CodecError> {
        Ok(std::str::from_utf8(bytes)?.to_owned())
    }
}

#[tokio::test(start_paused = true)] // P64
async fn bytes_that_are_no_record_are_nothing_and_no_failure() {
    let (store, key) = (LocalStore::new(), Key::from("k"));
    let tier = Tier::new(Arc::new(store.clone()), Text, Arc::default(), Weak::<Deaf>::new());
    let entry = |value: &str| Entry {
        value: value.to_owned(),
        started: clock::now(),
        run: 1,
        early: Early::after(Duration::from_secs(2)),
        judged: Judgement::storable(crate::Freshness::new(Duration::from_secs(60))),
        variant: None,
        weight: 1,
        generation: Generation::default(),
        refreshing: Default::default(),
    };
    let values = |_: &Fields, _: &()| Variant::default();
    type Change = fn(&[u8]) -> Vec<u8>;
    let changes: [(Change, bool); 4] = [
        (<[u8]>::to_vec, true),
        (|_| Vec::new(), false),
        (|bytes| bytes[1..].to_vec(), false),
        (|bytes| bytes.iter().map(|byte| byte ^ 1).collect(), false),
    ];
    for (change, sound) in changes {
        let looked = tier.look(&tier.budget(), &key, (), values).await.0.unwrap();
        let known = tier.begin(&tier.budget(), &looked, Leasing::Wanted).await.unwrap().known;
        tier.after(&key, Afterwards::Save(known.saving(&Arc::new(entry("value")), |fields| values(fields, &())))).await;
        store.corrupt(change);
        let found = tier.look(&tier.budget(), &key, (), values).await.0.unwrap().found;
        assert_eq!(
            found.map(|held| (held.value, held.cost)),
            sound.then(|| ("value".to_owned(), Duration::from_secs(2)))
        );
    }
    let failures = tier.telemetry.stats(&Gauges::default()).store_failures;
    assert_eq!(failures, 0);
}

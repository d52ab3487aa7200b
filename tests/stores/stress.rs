//! Three instances over one store that is slow, fails and loses messages, with readers that purge, put, refresh and leave at
//! any moment: whoever reads after an invalidation is confirmed gets nothing that was made before it, nobody's request
//! fails for the store's sake, and all of it comes to an end.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use cacheback::{Cache, Cacheback, CachebackLayer, Freshness, Function, Key, Typed, testing::LocalStore};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{Number, instances::millis};

/// How many courses of events are tried.
const SEEDS: u64 = 250;

type Instance = Cacheback<Function<u32, u64, String>, Typed<u32, u64>>;

/// What may befall the instances of one course of events.
#[derive(Clone, Copy, Debug)]
struct Weather {
    /// Invalidations are lost now and then: what others have in memory is theirs until they know that something was missed.
    cuts: bool,
    /// Values are put. What is put is not voided by an older run; beside that anybody may put what he likes.
    puts: bool,
    fails: bool,
    /// The third instance has no memory.
    strict: bool,
}

/// What is true, and what each instance must know of it by now.
struct World {
    store: LocalStore,
    instances: [Instance; 3],
    truth: AtomicU64,
    least: [AtomicU64; 3],
}

/// Numbers that look drawn by lot, and are the same for the same seed (xorshift).
struct Lots(u64);

impl Lots {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

impl Weather {
    fn of(seed: u64) -> Self {
        let is = |bit: u64| seed >> bit & 1 == 1;
        // A put that is under way while others purge unheard may come after them.
        Self { cuts: is(0), puts: is(1) && !is(0), fails: is(2), strict: is(3) }
    }
}

impl World {
    fn new(seed: u64) -> Arc<Self> {
        let store = LocalStore::new();
        Arc::new_cyclic(|world: &std::sync::Weak<Self>| {
            let instance = |number: u64| {
                let is_strict = number == 2 && Weather::of(seed).strict;
                let memory = if is_strict { 0 } else { 1 << 20 };
                let cache = Cache::builder().memory(memory).store(store.clone()).build_for(Number);
                let (world, drawn) = (world.clone(), AtomicU64::new(seed * 31 + number));
                CachebackLayer::typed::<u32, u64>(|key| Key::from(key.to_string()))
                    .freshness(
                        Freshness::new(millis(200)).stale_while_revalidate(millis(300)).stale_if_error(millis(300)),
                    )
                    .refresh_timeout(millis(400))
                    .wait_timeout(millis(300))
                    .over_cache(&cache)
                    .function(move |_| {
                        let mut lots = Lots::new(drawn.fetch_add(0x1_0001, SeqCst));
                        let made = world.upgrade().unwrap().truth.load(SeqCst);
                        async move {
                            sleep(millis(lots.below(4) * lots.below(120))).await;
                            if lots.below(6) == 0 { Err("down".to_owned()) } else { Ok(made) }
                        }
                    })
            };
            let instances = [0, 1, 2].map(instance);
            Self { store, instances, truth: AtomicU64::new(1), least: Default::default() }
        })
    }

    /// Something has changed, and an instance is told.
    async fn change(&self, at: usize, weather: Weather, is_put: bool) {
        let new = self.truth.fetch_add(1, SeqCst) + 1;
        let is_done = if is_put {
            self.instances[at].put(1, new).await.is_ok()
        } else {
            self.instances[at].purge(&1).await.is_ok()
        };
        // A put says nothing of the store. What others hold they know to be over where every message arrives.
        let all = !is_put && !weather.cuts;
        for (number, least) in self.least.iter().enumerate() {
            if is_done && (all || number == at) {
                least.fetch_max(new, SeqCst);
            }
        }
    }

    async fn read(&self, at: usize, seed: u64) {
        let least = self.least[at].load(SeqCst);
        match self.instances[at].get(1).await {
            Ok(read) => assert!(read >= least, "seed {seed}: instance {at} read {read}, and {least} was confirmed"),
            Err(error) => assert_eq!(error, "down", "seed {seed}"),
        }
    }

    /// One who is at it for some seconds.
    async fn live(self: Arc<Self>, seed: u64, who: u64) {
        let (mut lots, weather, at) = (Lots::new(seed * 1_000 + who), Weather::of(seed), (who % 3) as usize);
        for _ in 0..40 {
            sleep(millis(lots.below(60))).await;
            match lots.below(16) {
                0 => self.change(at, weather, false).await,
                1 if weather.puts && who == 0 => self.change(at, weather, true).await,
                2 => self.store.delay(millis([0, 0, 1, 20, 150][lots.below(5) as usize])),
                3 if weather.fails => self.store.fail(lots.below(3) == 0),
                4 if weather.cuts => self.store.cut(lots.below(2) == 0),
                5 => {
                    let now = self.truth.load(SeqCst);
                    if let Ok(new) = self.instances[at].refresh(1).await {
                        assert!(new >= now, "seed {seed}: {new} is older than the wish for a new one, at {now}");
                    }
                }
                6 => drop(timeout(millis(lots.below(30)), self.instances[at].get(1)).await),
                _ => self.read(at, seed).await,
            }
        }
    }
}

#[test] // P2, P14, P30, P72, P74
fn whatever_befalls_instances_none_reads_what_was_invalidated_and_all_come_to_an_end() {
    for seed in 0..SEEDS {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let world = World::new(seed);
            let all: JoinSet<()> = (0..9).map(|who| Arc::clone(&world).live(seed, who)).collect();
            let end = timeout(Duration::from_secs(600), all.join_all()).await;
            assert!(end.is_ok(), "seed {seed}: somebody waits for ever");
            for instance in &world.instances {
                let settled = timeout(Duration::from_secs(60), instance.cache().settled()).await;
                assert!(settled.is_ok(), "seed {seed}: a run goes on for ever");
                assert_eq!(instance.cache().stats().refreshes, 0, "seed {seed}");
            }
            // When all is well again, all are of one mind in a moment, and no lease is left with anybody.
            world.store.delay(Duration::ZERO);
            world.store.fail(false);
            world.store.cut(false);
            sleep(Duration::from_secs(2)).await;
            let truth = world.truth.load(SeqCst);
            for instance in &world.instances {
                for _ in 0..50 {
                    let read = timeout(Duration::from_secs(1), instance.get(1)).await;
                    if read.expect("nobody is at it") == Ok(truth) {
                        break;
                    }
                    sleep(millis(100)).await;
                }
                assert_eq!(instance.get(1).await, Ok(truth), "seed {seed}");
            }
        });
    }
}

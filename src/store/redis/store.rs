//! The store: each promise of `Store` as what is asked of Redis.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use redis::Value;

use super::{
    asking::{self, Answers, millis, moment, number, odd, plain, script},
    claim::{Buckets, Run},
    config::Config,
    envelope::{Envelope, FORMAT, MOST_TAGS, Seal},
    leases::{self, Due, Held, Leases},
    messages::Message,
    names::{CourseNames, Name, Names},
    proof::Proof,
    random::random,
    reading::Reading,
    scripts,
    servers::{Addressed, Answer, Errands, Servers},
    tokens::{self, Token},
    vouched::Look,
};
use crate::{
    entry::Course,
    error::Error,
    protocol::sealed::Sealed,
    scope::Force,
    scope::Scope,
    store::{
        BoxFuture, Claimed, Found, Leasing, Left, Listener, Member, Record, Saved, Since, Standing, Store, StoreError,
        redis::RedisStoreBuilder,
    },
};

/// How long tokens are needed after a claim, at least: a run that takes longer may be made in vain.
const TOKENS: Duration = Duration::from_secs(300);
/// How much longer than the record that they cover.
const LONGER: Duration = Duration::from_secs(60);
/// How long the buckets are.
const BUCKETS: Duration = Duration::from_secs(24 * 3_600);
/// Nothing is kept for longer: ten years.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 3_600);

/// A store in Redis or Valkey: many instances behind it are one cache.
///
/// What one of them has stored the others find; for one key one of them runs; what one invalidates is gone for all.
/// Redis may be slow, full, or not there: no request fails because of it, and each instance goes on by itself.
///
/// ```no_run
/// use cacheback::{Cache, RedisStore};
///
/// # async fn example() -> Result<(), cacheback::Error> {
/// let cache = Cache::builder()
///     .memory(64 << 20)
///     .store(RedisStore::connect("redis://127.0.0.1/").await?)
///     .build();
/// # let _: Cache = cache;
/// # Ok(())
/// # }
/// ```
///
/// # What is guaranteed
///
/// | Redis is | invalidations | runs | requests |
/// |---|---|---|---|
/// | healthy | when `purge` or `expire` has returned `Ok` the shared part is done, and other instances' memory follows within one message | one per key among all instances | find what any instance has stored |
/// | cut off from some instances | those return an error, and tell Redis before they read from it again; their memory is looked up again once it is older than [`max_unverified`](RedisStoreBuilder::max_unverified) and Redis can be asked | one per key and instance there | are answered from memory, or by the service |
/// | dead, frozen, read-only | an error; what is in the instance's own memory is gone all the same | one per key and instance | wait 100 ms at most, and not at all once that was noticed |
/// | full, and evicts nothing | as when it is healthy | one per key and instance | find what is there still, but for a second after one was refused room |
/// | started again, or another one took its place | nothing from before is read, unless [restarts are trusted](RedisStoreBuilder::trust_restarts) | as when it is healthy | are misses once |
///
/// # What is kept there
///
/// `H` is the hash of a key and `V` that of the request fields that select a variant. `H` stands in braces: all that
/// belongs to one response is on one node of a cluster, and each script is for one node.
///
/// | what | name | type | time to live |
/// |---|---|---|---|
/// | a response, or which fields select among its variants | `cacheback:{H}:r`, `cacheback:{H}:r:V` | string | its own, less up to 1/64 |
/// | who runs for it | `cacheback:{H}:l`, `cacheback:{H}:l:V` | string, 8 bytes | 5 s, renewed |
/// | that somebody waits for that | `cacheback:{H}:w`, `cacheback:{H}:w:V` | string | 10 s |
/// | what an invalidation deletes | `cacheback:t:all`, `cacheback:t:key:user:42`, `cacheback:t:uri://host/path?query`, `cacheback:t:path:/path`, `cacheback:t:below:/path`, `cacheback:t:tag:quotes`, `cacheback:t:group:quotes@host`, `cacheback:t:namespace:acme`; on all hosts without `//host`; `#` and a hash for what is long or unprintable | string, 8 bytes | at least 5 minutes, and a minute more than what they cover |
/// | what every invalidation deletes with that, but for in a cluster: as long as it is there, what a reader has compared stands | `cacheback:e` | string, 8 bytes | a day |
/// | what an invalidation of a tag changes | `cacheback:b` | string, 2,048 bytes | at least a day |
/// | what instances tell each other | `cacheback:push` | channel | |
///
/// So `redis-cli DEL cacheback:t:path:/quotes cacheback:e` invalidates a path in Redis, and `DEL cacheback:t:all
/// cacheback:e` everything; without `cacheback:e` it takes until whoever has read it lately compares tokens again
/// ([`max_unverified`](RedisStoreBuilder::max_unverified)). In a cluster, where there is none, `DEL
/// cacheback:t:path:/quotes` is all. What is in the memory of instances does not hear of it.
///
/// # What a read costs
///
/// A read compares the tokens of all that could reach the response. Where an instance has done that within
/// [`max_unverified`](RedisStoreBuilder::max_unverified), and `cacheback:e` is what it was, no invalidation has come
/// since, and it asks for the response and that alone: a cache [without memory](crate::CacheBuilder::memory) is given
/// nothing that was invalidated before it asked, and pays little more than a `GET`. Those who read at the same time
/// ask in one command, 32 of them at most. In a cluster, where no command is for two nodes, all tokens are compared
/// each time.
///
/// # What Redis must be
///
/// * Redis 6.2 or later, or Valkey: one server, one behind Sentinel (feature `redis-sentinel`), or a
///   cluster (feature `redis-cluster`). Nothing but strings, scripts and pub/sub is used.
/// * Any `maxmemory-policy` will do. With one that evicts, what is evicted is a miss, and never an old response. With
///   `noeviction` a full Redis refuses what is new, and instances cache for themselves until there is room.
/// * Each URL that is looked up leaves names of what could reach it, whether its response is stored or not: five that are its
///   own and up to two for each part of its path, of some hundred bytes each, for five minutes or longer.
/// * There are two connections to each server, whatever the number of requests: one for messages.
/// * Ages come from its clock. The clocks of instances do not matter.
/// * A user that is restricted needs the keys `~cacheback:*`, the channel `&cacheback:push`, and the commands `GET MGET SET DEL
///   EXISTS GETRANGE SETRANGE PTTL PEXPIRE TIME EVAL EVALSHA PUBLISH SUBSCRIBE INFO PING HELLO CLIENT`; in a cluster also
///   `CLUSTER ASKING`, and `SELECT` where the URL names a database.
/// * Whoever can write there can change what is served, unless instances share a [secret](RedisStoreBuilder::secret).
#[derive(Clone)]
pub struct RedisStore(Arc<Inner>);

/// What is set once.
pub(super) struct Settings {
    pub(super) prefix: Box<str>,
    pub(super) seal: Seal,
    /// In bytes.
    pub(super) max_value: usize,
}

struct Inner {
    servers: Arc<Servers>,
    reading: Arc<Reading>,
    names: Names,
    seal: Seal,
    max_value: usize,
    leases: Arc<Leases>,
    listeners: Mutex<Vec<(Member, Weak<dyn Listener>)>>,
}

impl RedisStore {
    /// Connects to the server at a URL, with what is set by default.
    ///
    /// # Errors
    ///
    /// As for [`RedisStoreBuilder::connect`].
    pub async fn connect(url: &str) -> Result<Self, Error> {
        Self::builder().url(url).connect().await
    }

    /// A store that connects when it is first needed, to the server at a URL and with what is set by default.
    ///
    /// # Errors
    ///
    /// As for [`RedisStoreBuilder::connect_lazy`].
    pub fn connect_lazy(url: &str) -> Result<Self, Error> {
        Self::builder().url(url).connect_lazy()
    }

    /// What is set, before there is a store.
    pub fn builder() -> RedisStoreBuilder {
        RedisStoreBuilder::default()
    }

    pub(super) fn new(servers: Config, settings: Settings) -> Self {
        let Settings { prefix, seal, max_value } = settings;
        Self(Arc::new_cyclic(|inner: &Weak<Inner>| {
            let errands: Weak<dyn Errands> = Weak::<Inner>::clone(inner);
            let inner = Weak::clone(inner);
            let nudge = move || inner.upgrade().iter().for_each(|inner| inner.servers.nudge());
            let (servers, names) = (Arc::new(Servers::new(servers, errands)), Names::new(&prefix));
            let reading = Arc::new(Reading::new(Arc::clone(&servers), names.clone(), seal.clone()));
            Inner {
                servers,
                reading,
                names,
                seal,
                max_value,
                leases: Arc::new(Leases::new(nudge)),
                listeners: Mutex::default(),
            }
        }))
    }

    pub(super) async fn connected(self) -> Result<Self, Error> {
        self.0.servers.connect().await?;
        Ok(self)
    }
}

impl Inner {
    async fn ask(&self, commands: Vec<Addressed>) -> Result<Answers, StoreError> {
        asking::ask(&self.servers, commands).await
    }

    fn tokens(&self, tokens: &[Token<'_>]) -> Vec<Name> {
        tokens.iter().map(|token| self.names.token(token)).collect()
    }

    /// The buckets as they are now.
    async fn buckets(&self) -> Result<Option<Buckets>, StoreError> {
        let name = self.names.buckets();
        let question = plain(&name, redis::cmd("GET").arg(&name).take());
        Ok(Buckets::read(self.ask(vec![question]).await?.next()?))
    }

    fn saving(&self, names: &CourseNames, run: &Run, envelope: &Envelope, life: Duration) -> Addressed {
        let lease = run.lease(names).map(|lease| lease.held.token.to_vec()).unwrap_or_default();
        let bytes = envelope.write(&names.record, &self.seal);
        let [channel, told] = self.leaving(names, Left::Ended);
        let keys = vec![names.record.clone(), names.lease.clone(), names.mark.clone()];
        script(&scripts::SAVE, keys, [lease, channel, told, bytes, number(run.claimed), number(life.as_micros())])
    }

    fn releasing(&self, Held { names, token, .. }: &Held, left: Left) -> Addressed {
        let [channel, told] = self.leaving(names, left);
        script(&scripts::RELEASE, vec![names.lease.clone(), names.mark.clone()], [token.to_vec(), channel, told])
    }

    /// Where those who wait for a lease are told, and what.
    fn leaving(&self, names: &CourseNames, left: Left) -> [Vec<u8>; 2] {
        [self.names.channel().into_bytes(), Message::Left(names.lease.clone(), left).encode()]
    }

    async fn claim(&self, course: &Course, leasing: Leasing) -> Result<Claimed, StoreError> {
        let (names, tokens) = (self.names.course(course), self.tokens(&tokens::of_key(&course.key)));
        let asked = (leasing == Leasing::Wanted)
            .then(|| (self.leases.take(&course.key, names.clone()), self.leases.wait(&names.lease)));
        let token = asked.as_ref().map(|(lease, _)| lease.held.token.to_vec()).unwrap_or_default();
        let mut commands = asking::observe(&self.servers, &tokens, TOKENS);
        commands.push(asking::observing(&[self.names.buckets()], tokens::BUCKETS, BUCKETS));
        let keys = vec![names.record.clone(), names.lease.clone(), names.mark.clone()];
        commands.push(script(&scripts::CLAIM, keys, [token, millis(leases::LASTS), millis(leases::MARKED)]));

        let mut answers = self.ask(commands).await?;
        let observed = answers.tokens(tokens.len())?.ok_or_else(odd)?;
        let buckets = only(answers.next()?).and_then(Buckets::read).ok_or_else(odd)?;
        let Answer { value, era } = answers.next()?;
        let Value::Array(values) = value else { return Err(odd()) };
        let Ok([record, seconds, micros, Value::Int(left)]) = <[Value; 4]>::try_from(values) else { return Err(odd()) };
        let (claimed, proof) = (moment(&seconds, &micros)?, Proof::of(era, &observed));
        let (mut lease, mut held) = (None, None);
        if let Some((own, waiting)) = asked {
            match u64::try_from(left) {
                Ok(0) => lease = Some(own),
                left => {
                    own.is_gone();
                    let left = left.map_or(leases::LASTS, Duration::from_millis).min(leases::LASTS);
                    held = Some(Box::pin(waiting.left(left)) as BoxFuture<'static, _>);
                }
            }
        }
        let look = Look { record: Answer { value: record, era }, epoch: None, now: claimed };
        let found = self.reading.opened(&course.key, &names.record, look, Some(proof)).await?.map(|(found, ..)| found);
        let run = Run { key: course.key.clone(), claimed, era, proof, buckets, lease };
        Ok(Claimed { found, since: Since(Arc::new(run)), held })
    }

    /// Keeps a record, in the order that the guarantee for tags rests on: first the tokens of its tags are read, THEN
    /// the buckets. NOTE: `invalidate` changes the bucket first, and then deletes the token.
    async fn save(&self, course: &Course, record: Record, run: &Run) -> Result<Saved, StoreError> {
        let (names, life) = (self.names.course(course), record.time_to_live.min(LONGEST));
        let Record { bytes, tags, .. } = record;
        if bytes.len() > self.max_value || tags.iter().count() > MOST_TAGS {
            return Ok(give_back(run, &names, Saved::Kept));
        }
        let of_key = self.tokens(&tokens::of_key(&course.key));
        let of_tags = self.tokens(&tokens::of_tags(&course.key, tags.iter()));
        let needed = TOKENS.max(life + LONGER);
        let mut commands = asking::observe(&self.servers, &of_key, needed);
        commands.extend(asking::observe(&self.servers, &of_tags, needed));
        let mut answers = self.ask(commands).await?;
        let proof = answers.tokens(of_key.len())?.map(|observed| Proof::of(run.era, &observed));
        let observed = answers.tokens(of_tags.len())?.ok_or_else(odd)?;
        if proof != Some(run.proof) {
            return Ok(give_back(run, &names, Saved::Voided));
        }
        if !of_tags.is_empty() {
            let now = self.buckets().await?;
            if !now.is_some_and(|now| tags.iter().all(|tag| run.buckets.agree(&now, tag))) {
                return Ok(give_back(run, &names, Saved::Voided));
            }
        }
        let proof_of_tags = Proof::of(run.era, &observed);
        let envelope = Envelope { claimed: run.claimed, proof: run.proof, tags, proof_of_tags, record: bytes };
        self.ask(vec![self.saving(&names, run, &envelope, jittered(life))]).await?.done()?;
        if let Some(lease) = run.lease(&names) {
            lease.is_gone();
        }
        Ok(Saved::Kept)
    }

    async fn forget(&self, course: &Course, run: &Run) -> Result<(), StoreError> {
        let name = self.names.record(course);
        let forgetting = script(&scripts::FORGET, vec![name], [FORMAT.to_vec(), number(run.claimed)]);
        self.ask(vec![forgetting]).await?.done()
    }

    /// Deletes the tokens of what a scope reaches; before that the bucket is changed by which a run learns of tags that
    /// it did not know. NOTE: see `save`.
    async fn invalidate(&self, scope: &Scope, force: Force, by: Member) -> Result<(), StoreError> {
        if let Some(bucket) = tokens::bucket_of(scope) {
            let stirring = [number(bucket * 8), random().to_vec()];
            self.ask(vec![script(&scripts::STIR, vec![self.names.buckets()], stirring)]).await?.done()?;
        }
        let message = Message::Invalidated { by, scope: scope.clone(), force };
        // Each is told of by itself, as in a cluster none is deleted in the same moment as another.
        let deleting = self.tokens(&tokens::deleted_by(scope)).into_iter().map(|name| {
            let told = [self.names.channel().into_bytes(), message.encode()];
            // NOTE: `reading` asks for no token where the epoch is the same. In a cluster it asks for all.
            let epoch = self.servers.is_one().then(|| self.names.epoch());
            script(&scripts::INVALIDATE, [name].into_iter().chain(epoch).collect(), told)
        });
        self.ask(deleting.collect()).await?.done()
    }

    async fn release(&self) -> Result<(), StoreError> {
        let all = self.leases.all();
        if all.is_empty() {
            return Ok(());
        }
        // Their runs go on: one of those who wait takes over.
        self.ask(all.iter().map(|held| self.releasing(held, Left::Lost)).collect()).await.map(drop)
    }
}

/// What became of a record that was not sent: its lease ends all the same.
fn give_back(run: &Run, names: &CourseNames, saved: Saved) -> Saved {
    if let Some(lease) = run.lease(names) {
        lease.give_back();
    }
    saved
}

/// The one value that a script gave.
fn only(Answer { value, era }: Answer) -> Option<Answer> {
    let Value::Array(values) = value else { return None };
    let Ok([value]) = <[Value; 1]>::try_from(values) else { return None };
    Some(Answer { value, era })
}

/// A little less, so that what was saved in one moment is not gone in one moment. Less than a second is exact.
fn jittered(life: Duration) -> Duration {
    if life < Duration::from_secs(1) { life } else { life.mul_f64(1.0 - fastrand::f64() / 64.0) }
}

impl Errands for Inner {
    fn heard(&self, message: &[u8]) {
        match Message::decode(message) {
            Some(Message::Left(lease, left)) => self.leases.left(&lease, left),
            Some(Message::Invalidated { by, scope, force }) => {
                self.leases.void(&scope);
                let listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner).clone();
                let others = listeners.iter().filter(|(member, _)| *member != by);
                others
                    .filter_map(|(_, listener)| listener.upgrade())
                    .for_each(|other| other.invalidated(&scope, force));
            }
            None => self.servers.standing().gap(),
        }
    }

    fn due(&self) -> Vec<Addressed> {
        let Due { renew, release } = self.leases.due();
        let renewing = |held: &Held| {
            script(&scripts::RENEW, vec![held.names.lease.clone()], [held.token.to_vec(), millis(leases::LASTS)])
        };
        release.iter().map(|(held, left)| self.releasing(held, *left)).chain(renew.iter().map(renewing)).collect()
    }

    fn down(&self) {
        self.leases.lose_all();
    }
}

impl Sealed for RedisStore {}

impl Store for RedisStore {
    fn join(&self, listener: Weak<dyn Listener>) -> Member {
        let member = Member(u64::from_be_bytes(random()));
        let mut listeners = self.0.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        listeners.retain(|(_, listener)| listener.strong_count() > 0);
        listeners.push((member, listener));
        member
    }

    fn identity(&self) -> usize {
        Arc::as_ptr(&self.0).addr()
    }

    fn standing(&self) -> &Standing {
        self.0.servers.standing()
    }

    fn patience(&self) -> Duration {
        self.0.servers.patience()
    }

    fn fetch<'a>(&'a self, course: &'a Course) -> BoxFuture<'a, Result<Option<Found>, StoreError>> {
        Box::pin(self.0.reading.fetch(course))
    }

    fn claim<'a>(&'a self, course: &'a Course, leasing: Leasing) -> BoxFuture<'a, Result<Claimed, StoreError>> {
        Box::pin(self.0.claim(course, leasing))
    }

    fn save<'a>(
        &'a self,
        course: &'a Course,
        record: Record,
        since: &'a Since,
    ) -> BoxFuture<'a, Result<Saved, StoreError>> {
        Box::pin(async move { self.0.save(course, record, Run::of(since, course)?).await })
    }

    fn forget<'a>(&'a self, course: &'a Course, since: &'a Since) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move { self.0.forget(course, Run::of(since, course)?).await })
    }

    fn invalidate<'a>(
        &'a self,
        scope: &'a Scope,
        force: Force,
        by: &'a Member,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(self.0.invalidate(scope, force, *by))
    }

    fn release(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.0.release())
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore")
            .field("names", &self.0.names)
            .field("leases", &self.0.leases)
            .finish_non_exhaustive()
    }
}

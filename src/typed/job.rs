//! One stored response, by the request that it answers: got, looked at, put, expired, purged.

use tower_service::Service;

use crate::{
    cache::Reached, error::Error, future::ResponseFuture, peek::Peeked, scope::Force, scope::Scope, service::Cacheback,
    typed::Typed,
};

/// # By hand
///
/// ```
/// # use std::{convert::Infallible, time::Duration};
/// # use cacheback::{CachebackLayer, Key};
/// # async fn load_user(id: u32) -> Result<String, Infallible> { Ok(format!("user {id}")) }
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let users = CachebackLayer::typed::<u32, String>(|id| Key::from(format!("user:{id}")))
///     .freshness(Duration::from_secs(30))
///     .function(load_user);
///
/// let ada = users.get(42).await?;        // from memory, or by a run
/// users.refresh(42).await?;              // by a new run, whatever is stored
/// users.expire(&42).await?;              // the next reader gets it stale at once, and it is refreshed
/// users.purge(&42).await?;               // the next reader waits for a new one
/// assert!(users.peek(&42).is_none());    // what is stored; no run comes of it
/// users.put(42, ada).await?;             // as if a run had brought it
/// # assert_eq!(users.peek(&42).map(|stored| stored.value().clone()), Some("user 42".to_owned()));
/// # Ok(()) }
/// ```
impl<S, Req, Res> Cacheback<S, Typed<Req, Res>>
where
    Req: Send + 'static,
    Res: Clone + Send + Sync + 'static,
{
    /// Answers a request as [`Service::call`] does, and borrows the service for no longer than that.
    ///
    /// # Errors
    ///
    /// The service's own.
    pub fn get(&self, request: Req) -> ResponseFuture<S, Typed<Req, Res>, Req>
    where
        S: Service<Req, Response = Res> + Clone + Send + 'static,
        S::Error: Send,
        S::Future: Send,
    {
        self.answer(request, false)
    }

    /// What is stored for a request in the memory of this process, if it may still be served. Nothing comes of it: see
    /// [`Cache::peek`].
    ///
    /// [`Cache::peek`]: crate::Cache::peek
    #[must_use]
    pub fn peek(&self, request: &Req) -> Option<Peeked<Res>> {
        self.cache().peek(self.scope(request)?).pop()
    }

    /// Stores a response for a request, as if the service had just answered with it: see [`CachebackLayer::put`].
    ///
    /// # Errors
    ///
    /// As for [`CachebackLayer::put`].
    ///
    /// # Cancel safety
    ///
    /// As for [`CachebackLayer::put`].
    ///
    /// [`CachebackLayer::put`]: crate::CachebackLayer::put
    pub async fn put(&self, request: Req, response: Res) -> Result<(), Error> {
        crate::put::put(self.route(), request, response).await
    }

    /// Softly invalidates what is stored for a request: the next reader gets it stale at once, and it is refreshed. See
    /// [`Cache::expire`]. A request without a key reaches nothing.
    ///
    /// # Errors
    ///
    /// As for [`Cache::expire`].
    ///
    /// # Cancel safety
    ///
    /// As for [`Cache::expire`].
    ///
    /// [`Cache::expire`]: crate::Cache::expire
    pub async fn expire(&self, request: &Req) -> Result<Reached, Error> {
        self.invalidate(self.scope(request), Force::Expire).await
    }

    /// Removes what is stored for a request: the next reader waits for a new one. See [`Cache::purge`]. A request without a
    /// key reaches nothing.
    ///
    /// # Errors
    ///
    /// As for [`Cache::expire`].
    ///
    /// # Cancel safety
    ///
    /// As for [`Cache::expire`].
    ///
    /// [`Cache::purge`]: crate::Cache::purge
    /// [`Cache::expire`]: crate::Cache::expire
    pub async fn purge(&self, request: &Req) -> Result<Reached, Error> {
        self.invalidate(self.scope(request), Force::Purge).await
    }

    fn scope(&self, request: &Req) -> Option<Scope> {
        (self.route().protocol.key)(request).map(Scope::from)
    }

    async fn invalidate(&self, scope: Option<Scope>, force: Force) -> Result<Reached, Error> {
        match (scope, force) {
            (None, _) => Ok(Reached { entries: 0 }),
            (Some(scope), Force::Expire) => self.cache().expire(scope).await,
            (Some(scope), Force::Purge) => self.cache().purge(scope).await,
        }
    }
}

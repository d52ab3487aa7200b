//! An async function as a service, and the layer over it in one step.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tower_layer::Layer;
use tower_service::Service;

use crate::{layer::CachebackLayer, service::Cacheback, typed::Typed};

/// A service made of an async function: always ready, and called with one request.
///
/// The function is boxed, and so is the future of each run, so that the type has a name: it can be a field of a struct or
/// of an application's state. Only runs pay for it.
pub struct Function<Req, Res, E>(Arc<Boxed<Req, Res, E>>);

/// An async function whose responses are cached: from [`CachebackLayer::function`].
pub type CachedFunction<Req, Res, E> = Cacheback<Function<Req, Res, E>, Typed<Req, Res>>;

type Boxed<Req, Res, E> = dyn Fn(Req) -> Running<Res, E> + Send + Sync;

type Running<Res, E> = Pin<Box<dyn Future<Output = Result<Res, E>> + Send>>;

impl<Req, Res> CachebackLayer<Typed<Req, Res>>
where
    Req: Send + 'static,
    Res: Clone + Send + Sync + 'static,
{
    /// Caches the responses of an async function with one argument: the layer over a [`Function`].
    ///
    /// What it gives is a service like any other, with the methods of [`Cacheback`] for those who call it by hand. It is
    /// cheap to clone, and its type can be written down: [`CachedFunction`].
    ///
    /// ```
    /// use std::time::Duration;
    /// use cacheback::{CachebackLayer, CachedFunction, Key};
    ///
    /// #[derive(Clone, Debug, PartialEq)]
    /// struct User { name: String }
    /// #[derive(Debug)]
    /// struct DbError;
    ///
    /// async fn load_user(id: u32) -> Result<User, DbError> {
    ///     Ok(User { name: format!("number {id}") })
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), DbError> {
    /// let users: CachedFunction<u32, User, DbError> =
    ///     CachebackLayer::typed::<u32, User>(|id| Key::from(format!("user:{id}")))
    ///         .freshness(Duration::from_secs(30))
    ///         .function(load_user);
    ///
    /// let ada = users.get(42).await?;
    /// # assert_eq!(ada.name, "number 42");
    /// # Ok(()) }
    /// ```
    ///
    /// What the function needs beside its argument a closure brings along: `move |id| load_user(pool.clone(), id)`.
    #[must_use]
    pub fn function<E, F>(&self, function: impl Fn(Req) -> F + Send + Sync + 'static) -> CachedFunction<Req, Res, E>
    where
        F: Future<Output = Result<Res, E>> + Send + 'static,
    {
        self.layer(Function::new(function))
    }
}

impl<Req, Res, E> Function<Req, Res, E> {
    /// A service that calls this function.
    pub fn new<F>(function: impl Fn(Req) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<Res, E>> + Send + 'static,
    {
        Self(Arc::new(move |request| Box::pin(function(request))))
    }
}

impl<Req, Res, E> Service<Req> for Function<Req, Res, E> {
    type Response = Res;
    type Error = E;
    type Future = Running<Res, E>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), E>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Req) -> Self::Future {
        (self.0)(request)
    }
}

impl<Req, Res, E> Clone for Function<Req, Res, E> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<Req, Res, E> fmt::Debug for Function<Req, Res, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Function").finish_non_exhaustive()
    }
}

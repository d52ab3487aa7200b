//! The response that stands in where nothing is stored.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};

use crate::{
    http::{Body, Http, announcing::StatusName, request::View, stored},
    layer::CachebackLayer,
    placeholder::Placeholder,
    status::Outcome,
};

/// A response that is given as often as is needed.
#[derive(Clone, Debug)]
pub(crate) struct StandIn {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

/// # Where nothing is stored
impl CachebackLayer<Http> {
    /// Answers with a placeholder where nothing is stored, and has a run behind the reader fetch what belongs there. See
    /// [`Placeholder`].
    ///
    /// Its status and its fields are what you make them. It gets `Cache-Control: no-store` unless it has that field, so
    /// that nobody further down keeps it. A HEAD is answered by it without its body; a `Range` and what else goes past the
    /// cache never is. The client's conditions do not count for it.
    ///
    /// ```
    /// use std::time::Duration;
    /// use cacheback::{CachebackLayer, Placeholder};
    /// use http::Response;
    ///
    /// let layer = CachebackLayer::new(Duration::from_secs(60)).on_miss(Placeholder(Response::new("[]")));
    /// ```
    ///
    /// # Panics
    ///
    /// If its status is 1xx, 206 or 304, which are no whole responses.
    #[track_caller]
    pub fn on_miss<B: Into<Bytes>>(self, placeholder: Placeholder<Response<B>>) -> Self {
        let (mut head, body) = placeholder.0.into_parts();
        let whole = !head.status.is_informational() && ![206, 304].contains(&head.status.as_u16());
        assert!(whole, "on_miss: a response with status {} is no whole one", head.status);
        head.headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
        let stand_in = StandIn { status: head.status, headers: head.headers, body: body.into() };
        self.set_protocol(|http| http.stand_in = Some(stand_in.into()))
    }
}

impl StandIn {
    /// The response for one reader.
    pub(crate) fn response<B: http_body::Body>(
        &self,
        view: &View,
        outcome: Outcome,
        name: &StatusName,
    ) -> Response<Body<B>> {
        let mut response = Response::new(Body::whole(self.body.clone(), None));
        *response.status_mut() = self.status;
        response.headers_mut().clone_from(&self.headers);
        stored::announce(&mut response, outcome, name);
        if view.head { stored::without_content(response) } else { response }
    }
}

//! The origin as a tower service: a hyper client with a pool of connections.

use std::{
    error::Error,
    fmt,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use http::{
    HeaderValue, Request, Response, StatusCode, Uri, Version, header,
    uri::{Authority, PathAndQuery, Scheme},
};
use http_body::Body;
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use tower::Service;

use super::{
    Options,
    content::{Download, Peer, Upload},
    fields,
    interim::Teller,
    words::Words,
};

/// Calls the origin. What it answers is handed on as it is.
#[derive(Clone)]
pub(crate) struct Origin {
    client: Client<HttpConnector, Upload>,
    authority: Authority,
    timeout: Duration,
}

/// Why the origin did not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// There is no connection to be had.
    Unreachable,
    /// It said nothing in time.
    Late,
    /// It waits for the rest of the request, which the client does not send.
    Stalled,
    /// What it said was no response, or it said nothing before it closed the connection.
    Broken,
}

impl Origin {
    pub(crate) fn new(options: &Options) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(options.timeout.min(Duration::from_secs(10))));
        let client = Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            // Before the origin closes it: many do after five seconds, and what is sent just then is lost.
            .pool_idle_timeout(Duration::from_secs(4))
            .build(connector);
        Self { client, authority: options.origin.clone(), timeout: options.timeout }
    }

    /// The request as the origin is to have it: to its address, in the version that it is spoken to in.
    fn address<B: Body>(&self, request: &mut Request<B>) {
        let mut parts = request.uri().clone().into_parts();
        parts.scheme = Some(Scheme::HTTP);
        parts.authority = Some(self.authority.clone());
        parts.path_and_query.get_or_insert(PathAndQuery::from_static("/"));
        // With all three parts there is no other way for a URI to be wrong.
        *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
        *request.version_mut() = Version::HTTP_11;
        // Of a GET with content whose length is not known hyper would send the head alone.
        if !request.body().is_end_stream() && !request.headers().contains_key(header::CONTENT_LENGTH) {
            request.headers_mut().insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
    }
}

impl Service<Request<Incoming>> for Origin {
    type Response = Response<Download>;
    type Error = Failure;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Failure>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Incoming>) -> Self::Future {
        self.address(&mut request);
        if let Some(teller) = request.extensions_mut().remove::<Teller>() {
            hyper::ext::on_informational(&mut request, move |said| teller.tell(said.status(), said.headers()));
        }
        let (head, content) = request.into_parts();
        let (upload, progress) = Upload::new(content);
        let (answer, timeout) = (self.client.request(Request::from_parts(head, upload)), self.timeout);
        Box::pin(async move {
            tokio::select! {
                answer = answer => match answer {
                    Ok(response) => understood(response.map(|content| Download::new(content, timeout))),
                    Err(error) => {
                        tracing::warn!(target: "proxy", "the origin failed: {}", chain(&error));
                        Err(if error.is_connect() { Failure::Unreachable } else { Failure::Broken })
                    }
                },
                stalled = progress.stalled(timeout) => Err(match stalled {
                    Peer::Client => Failure::Stalled,
                    Peer::Origin => Failure::Late,
                }),
            }
        })
    }
}

/// The response as it goes on, if there is sense in it.
fn understood(mut response: Response<Download>) -> Result<Response<Download>, Failure> {
    // Nobody asked it to speak otherwise: requests go on without `Upgrade`.
    let switched = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    if switched || !fields::is_plain(response.headers()) {
        return Err(Failure::Broken);
    }
    if response.headers().contains_key(header::TRANSFER_ENCODING) {
        // The chunks are what counts (RFC 9112 §6.3), and the length may be another one.
        response.headers_mut().remove(header::CONTENT_LENGTH);
    }
    Ok(response)
}

impl Failure {
    /// What the client is told.
    pub(crate) const fn words(self) -> Words {
        match self {
            Self::Unreachable => Words::new(StatusCode::BAD_GATEWAY, "the origin cannot be reached"),
            Self::Late => Words::new(StatusCode::GATEWAY_TIMEOUT, "the origin did not answer in time"),
            Self::Stalled => Words::new(StatusCode::REQUEST_TIMEOUT, "the rest of the request did not come in time"),
            Self::Broken => Words::new(StatusCode::BAD_GATEWAY, "the origin broke off, or answered what is no HTTP"),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.words().why)
    }
}

impl Error for Failure {}

/// An error with what brought it about.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

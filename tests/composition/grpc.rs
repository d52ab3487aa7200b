//! In tonic, a layer for HTTP. That for gRPC has tests of its own (`tests/grpc`).

use std::{
    convert::Infallible,
    task::{Context, Poll},
};

use axum::{
    extract::Request,
    http::{HeaderName, HeaderValue, header},
};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tonic::{server::NamedService, service::LayerExt as _, transport::Server, transport::server::TcpIncoming};
use tower::Service;

use crate::stand::{Runs, minute};

/// Answers every call with one message and a good status, and counts.
#[derive(Clone, Debug, Default)]
struct Quotes(Runs);

impl NamedService for Quotes {
    const NAME: &'static str = "quotes.Quotes";
}

impl Service<http::Request<tonic::body::Body>> for Quotes {
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: http::Request<tonic::body::Body>) -> Self::Future {
        let message = Bytes::from(vec![0, 0, 0, 0, 1, u8::try_from(self.0.next()).expect("few calls")]);
        let good = http::HeaderMap::from_iter([(HeaderName::from_static("grpc-status"), HeaderValue::from(0))]);
        let body = Full::new(message).with_trailers(std::future::ready(Some(Ok(good))));
        let response = http::Response::builder().header(header::CONTENT_TYPE, "application/grpc");
        std::future::ready(Ok(response.body(tonic::body::Body::new(body)).expect("a sound response")))
    }
}

async fn serve(layered: bool) -> (String, Runs) {
    let quotes = Quotes::default();
    let runs = quotes.0.clone();
    let incoming = TcpIncoming::bind(([127, 0, 0, 1], 0).into()).expect("loopback has a free port");
    let address = incoming.local_addr().expect("a bound listener has an address");
    if layered {
        let server = Server::builder().layer(minute()).add_service(quotes);
        tokio::spawn(server.serve_with_incoming(incoming));
    } else {
        let server = Server::builder().add_service(minute().named_layer(quotes));
        tokio::spawn(server.serve_with_incoming(incoming));
    }
    (format!("http://{address}/quotes.Quotes/Get"), runs)
}

#[tokio::test] // P90, P52
async fn calls_pass_untouched_under_a_layer_of_tonics_server_and_under_a_named_layer() {
    for layered in [true, false] {
        let (uri, runs) = serve(layered).await;
        let client = Client::builder(TokioExecutor::new()).http2_only(true).build_http::<Full<Bytes>>();
        for run in 1..=2 {
            let call = Request::post(&uri)
                .header(header::CONTENT_TYPE, "application/grpc")
                .header(header::TE, "trailers")
                .body(Full::from(vec![0, 0, 0, 0, 0]))
                .unwrap();
            let answer = client.request(call).await.unwrap().into_body().collect().await.unwrap();
            assert_eq!(answer.trailers().unwrap()["grpc-status"], "0");
            assert_eq!(answer.to_bytes()[5], run);
        }
        assert_eq!(runs.count(), 2);
    }
}

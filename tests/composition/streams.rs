//! What has no end, and what becomes another protocol.

use std::sync::{Arc, Mutex};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{HeaderValue, StatusCode, header},
    response::Response,
    routing::get,
};
use bytes::Bytes;
use cacheback::Detail;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tower::ServiceExt;

use crate::{
    stand::{Runs, minute, to},
    support::net::{Script, infallible, scripted, serve, soon},
};

#[tokio::test(start_paused = true)] // P90, P52
async fn server_sent_events_reach_each_client_as_they_come() {
    type Scripts = Arc<Mutex<Vec<Script>>>;
    async fn events(State(scripts): State<Scripts>) -> Response {
        let (script, body) = scripted();
        scripts.lock().unwrap().push(script);
        let mut response = Response::new(Body::new(body));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        response
    }
    let scripts = Scripts::default();
    let app = Router::new().route("/", get(events)).layer(minute()).with_state(Arc::clone(&scripts));
    // Both at one time: neither waits for the end of the other, which never comes.
    let (one, other) = soon(async { tokio::join!(app.clone().oneshot(to("/")), app.clone().oneshot(to("/"))) }).await;
    for response in [infallible(one), infallible(other)] {
        assert_eq!(response.extensions().get::<cacheback::Outcome>().unwrap().detail(), Some(Detail::EventStream));
        let mut body = response.into_body();
        for event in ["data: one\n\n", "data: two\n\n"] {
            for script in &*scripts.lock().unwrap() {
                script.data(event);
            }
            let frame = soon(body.frame()).await.unwrap().unwrap();
            assert_eq!(frame.into_data().unwrap(), event);
        }
        for script in &*scripts.lock().unwrap() {
            script.data("");
        }
    }
    assert_eq!(scripts.lock().unwrap().len(), 2, "each has a stream of his own");
}

/// Becomes a protocol in which everything is said twice, for who asks for it.
async fn upgrade(State(runs): State<Runs>, mut request: Request) -> Response {
    runs.next();
    assert_eq!(request.headers()[header::UPGRADE], "twice");
    let upgraded = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let mut io = TokioIo::new(upgraded.await.expect("the client keeps its word"));
        let mut said = [0; 4];
        io.read_exact(&mut said).await.expect("the client says four bytes");
        io.write_all(&said.repeat(2)).await.expect("the client listens");
    });
    let response = Response::builder().status(StatusCode::SWITCHING_PROTOCOLS);
    response.header(header::CONNECTION, "upgrade").header(header::UPGRADE, "twice").body(Body::empty()).unwrap()
}

#[tokio::test] // P90, P40
async fn an_upgrade_such_as_a_websocket_passes_the_layer() {
    let runs = Runs::default();
    let app = Router::new().route("/", get(upgrade)).layer(minute()).with_state(runs.clone());
    let address = serve(app).await;
    for _ in 0..2 {
        let stream = TokioIo::new(TcpStream::connect(address).await.unwrap());
        let (mut client, connection) = hyper::client::conn::http1::handshake(stream).await.unwrap();
        tokio::spawn(connection.with_upgrades());
        let request = http::Request::get("/")
            .header(header::HOST, address.to_string())
            .header(header::CONNECTION, "upgrade")
            .header(header::UPGRADE, "twice")
            .body(Empty::<Bytes>::new());
        let response = client.send_request(request.unwrap()).await.unwrap();
        assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
        let mut io = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
        io.write_all(b"ping").await.unwrap();
        let mut echo = [0; 8];
        io.read_exact(&mut echo).await.unwrap();
        assert_eq!(&echo, b"pingping");
    }
    assert_eq!(runs.count(), 2);
}

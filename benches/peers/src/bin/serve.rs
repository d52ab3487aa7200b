//! Puts one contender behind a socket: `serve WHO PORT`.
//!
//! One thread, HTTP/1.1, Nagle's algorithm off. Connections are served as `axum::serve` does it (hyper-util's `auto`
//! builder with upgrades, the request's body turned into axum's), but for its graceful shutdown, and so that any service
//! can be: the bodies of responses are not boxed for it. The contender stands around the handler. When it is asked to end
//! it prints how often the handler ran.

use std::{env, error::Error, net::SocketAddr};

use axum::body::Body;
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use peers::{
    contenders::{self, Answers, Life, Visitor},
    origin::{Manner, Origin},
};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};
use tower::ServiceExt;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let who = arguments.next().ok_or("who?")?;
    let address = SocketAddr::from(([127, 0, 0, 1], arguments.next().ok_or("on which port?")?.parse()?));
    let origin = Origin::new(1_024, Manner::AtOnce);
    contenders::meet(&who, origin.handler(), Life::Fresh, Serve { address })?;
    println!("{}", origin.runs());
    Ok(())
}

struct Serve {
    address: SocketAddr,
}

impl Visitor for Serve {
    type Output = std::io::Result<()>;

    fn visit<S: Answers>(self, service: S) -> std::io::Result<()> {
        tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
            let mut end = signal(SignalKind::terminate())?;
            let listener = TcpListener::bind(self.address).await?;
            loop {
                let (stream, _) = tokio::select! {
                    connection = listener.accept() => connection?,
                    _ = end.recv() => return Ok(()),
                };
                stream.set_nodelay(true)?;
                let service = service.clone().map_request(|request: http::Request<Incoming>| request.map(Body::new));
                let service = TowerToHyperService::new(service);
                tokio::spawn(async move {
                    let builder = Builder::new(TokioExecutor::new());
                    let _over = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).await;
                });
            }
        })
    }
}

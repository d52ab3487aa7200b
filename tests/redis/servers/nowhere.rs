//! An address from which nothing comes back, not even a refusal: who connects waits.

use std::{
    io::ErrorKind,
    net::{Ipv4Addr, SocketAddr, TcpStream},
    time::Duration,
};

use tokio::net::{TcpListener, TcpSocket};

#[derive(Debug)]
pub(crate) struct Nowhere {
    /// Its queue is full of these, and it takes nobody out.
    queue: Vec<TcpStream>,
    listener: TcpListener,
}

impl Nowhere {
    pub(crate) fn new() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let listener = socket.listen(0).unwrap();
        let address = listener.local_addr().unwrap();
        let mut queue = Vec::new();
        loop {
            match TcpStream::connect_timeout(&address, Duration::from_millis(100)) {
                Ok(stream) => queue.push(stream),
                Err(error) if error.kind() == ErrorKind::TimedOut => return Self { queue, listener },
                Err(error) => panic!("{error}"),
            }
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://{}/", self.address())
    }
}

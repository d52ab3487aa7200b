//! An origin on a loopback port that says, byte by byte, what a test has it say.

use std::{
    fmt,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

use crate::{
    clock::in_time,
    wire::{self, Message},
};

/// What the origin was asked.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// How many requests there were, this one included.
    pub(crate) number: usize,
    /// How many connections there were, this one's included.
    pub(crate) connection: usize,
    pub(crate) message: Message,
}

impl Asked {
    pub(crate) fn field(&self, name: &str) -> String {
        self.message.field(name)
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.message.has(name)
    }

    pub(crate) fn path(&self) -> &str {
        self.message.line.split(' ').nth(1).expect("a request line")
    }

    pub(crate) fn method(&self) -> &str {
        self.message.line.split(' ').next().expect("a request line")
    }
}

/// What it answers: the next thing that it does, and so on.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reply(Vec<Step>);

#[derive(Clone, Debug)]
enum Step {
    Say(Vec<u8>),
    Wait(Gate),
    Close,
}

/// What a reply waits at until the test opens it.
#[derive(Clone, Debug)]
pub(crate) struct Gate(Arc<watch::Sender<bool>>);

type Script = dyn Fn(&Asked) -> Reply + Send + Sync;

/// The origin. It is gone when this is dropped.
pub(crate) struct Origin {
    pub(crate) address: SocketAddr,
    inner: Arc<Inner>,
    listening: JoinHandle<()>,
}

struct Inner {
    script: Box<Script>,
    asked: Mutex<Vec<Asked>>,
    connections: Mutex<Vec<JoinHandle<()>>>,
    begun: watch::Sender<usize>,
    /// How many connections there were.
    connected: watch::Sender<usize>,
    /// How many connections have ended.
    ended: watch::Sender<usize>,
}

impl Reply {
    /// 200 with these fields, a length, and a body.
    pub(crate) fn ok(fields: &str, body: &str) -> Self {
        Self::of("200 OK", fields, body)
    }

    /// The field lines are separated by line ends, and may be none.
    pub(crate) fn of(status: &str, fields: &str, body: &str) -> Self {
        let fields: String = fields.lines().map(|line| format!("{}\r\n", line.trim())).collect();
        Self::raw(format!("HTTP/1.1 {status}\r\n{fields}Content-Length: {}\r\n\r\n{body}", body.len()))
    }

    /// A status and fields alone.
    pub(crate) fn head(status: &str, fields: &str) -> Self {
        let fields: String = fields.lines().map(|line| format!("{}\r\n", line.trim())).collect();
        Self::raw(format!("HTTP/1.1 {status}\r\n{fields}\r\n"))
    }

    pub(crate) fn raw(bytes: impl Into<Vec<u8>>) -> Self {
        Self(vec![Step::Say(bytes.into())])
    }

    /// No answer at all: the connection is closed.
    pub(crate) fn none() -> Self {
        Self::default().close()
    }

    pub(crate) fn say(self, bytes: impl Into<Vec<u8>>) -> Self {
        self.then(Step::Say(bytes.into()))
    }

    pub(crate) fn wait(self, gate: &Gate) -> Self {
        self.then(Step::Wait(gate.clone()))
    }

    pub(crate) fn close(self) -> Self {
        self.then(Step::Close)
    }

    pub(crate) fn then_all(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }

    fn then(mut self, step: Step) -> Self {
        self.0.push(step);
        self
    }
}

impl Gate {
    pub(crate) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }

    pub(crate) fn open(&self) {
        self.0.send_replace(true);
    }

    async fn opened(&self) {
        let mut opened = self.0.subscribe();
        let _gone = opened.wait_for(|open| *open).await;
    }
}

impl Origin {
    pub(crate) async fn new(script: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
        let address = listener.local_addr().expect("a bound listener has an address");
        let inner = Arc::new(Inner {
            script: Box::new(script),
            asked: Mutex::default(),
            connections: Mutex::default(),
            begun: watch::Sender::new(0),
            connected: watch::Sender::new(0),
            ended: watch::Sender::new(0),
        });
        let listening = tokio::spawn(Arc::clone(&inner).listen(listener));
        Self { address, inner, listening }
    }

    /// What it was asked, in the order in which it came.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.inner.asked.lock().unwrap().clone()
    }

    /// How many requests there were.
    pub(crate) fn runs(&self) -> usize {
        self.asked().len()
    }

    /// What it was asked last.
    pub(crate) fn last(&self) -> Asked {
        self.asked().pop().expect("the origin was asked")
    }

    /// Waits until it was asked so often.
    pub(crate) async fn begun(&self, runs: usize) {
        let mut begun = self.inner.begun.subscribe();
        in_time(begun.wait_for(|begun| *begun >= runs)).await.expect("the origin is there");
    }

    /// Waits until it had so many connections.
    pub(crate) async fn connected(&self, connections: usize) {
        let mut connected = self.inner.connected.subscribe();
        in_time(connected.wait_for(|connected| *connected >= connections)).await.expect("the origin is there");
    }

    /// Waits until so many connections to it have ended.
    pub(crate) async fn ended(&self, connections: usize) {
        let mut ended = self.inner.ended.subscribe();
        in_time(ended.wait_for(|ended| *ended >= connections)).await.expect("the origin is there");
    }

    /// Ends it: nobody listens on its port any more, and its connections break off.
    pub(crate) async fn kill(&mut self) {
        self.listening.abort();
        let _aborted = (&mut self.listening).await;
        let connections = std::mem::take(&mut *self.inner.connections.lock().unwrap());
        for connection in connections {
            connection.abort();
            let _aborted = connection.await;
        }
    }
}

impl Inner {
    async fn listen(self: Arc<Self>, listener: TcpListener) {
        let mut number = 0;
        while let Ok((stream, _)) = listener.accept().await {
            number += 1;
            self.connected.send_replace(number);
            let inner = Arc::clone(&self);
            let connection = tokio::spawn(async move {
                inner.serve(stream, number).await;
                inner.ended.send_modify(|ended| *ended += 1);
            });
            self.connections.lock().unwrap().push(connection);
        }
    }

    async fn serve(&self, stream: TcpStream, connection: usize) {
        let (from, mut to) = stream.into_split();
        let mut from = BufReader::new(from);
        while let Some(message) = wire::read(&mut from, None).await {
            let asked = {
                let mut all = self.asked.lock().unwrap();
                let asked = Asked { number: all.len() + 1, connection, message };
                all.push(asked.clone());
                asked
            };
            self.begun.send_replace(asked.number);
            for step in (self.script)(&asked).0 {
                match step {
                    Step::Say(bytes) if to.write_all(&bytes).await.is_err() => return,
                    Step::Say(_) => {}
                    Step::Wait(gate) => {
                        // The other side may close the connection first.
                        tokio::select! {
                            () = gate.opened() => {}
                            _closed = wire::read(&mut from, None) => return,
                        }
                    }
                    Step::Close => return,
                }
            }
        }
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Origin").field("address", &self.address).finish_non_exhaustive()
    }
}

//! A line to a server on which a test decides what comes through.

use std::{
    io,
    iter::{repeat_n, repeat_with},
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{Instant, sleep_until},
};

use super::frame;

/// As long as it is there it takes connections, and passes on what is said on them.
#[derive(Debug)]
pub(crate) struct Proxy {
    address: SocketAddr,
    line: watch::Sender<Line>,
    accepted: Arc<AtomicUsize>,
    accepting: JoinHandle<()>,
}

/// How things are on the line.
#[derive(Clone, Debug, Default)]
struct Line {
    there: Duration,
    back: Duration,
    holds: bool,
    refuses: bool,
    loses_messages: bool,
    answers: Option<Nonsense>,
    cuts: usize,
    /// What another one says to the server, and ahead of how many commands of the client.
    between: Arc<Mutex<Option<(usize, Bytes)>>>,
}

/// What comes in place of each answer of the server.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Nonsense {
    /// These bytes: a length that nobody has, an error, an answer to something else.
    Bytes(&'static [u8]),
    /// Bytes drawn by lot.
    Random,
    /// Its first byte, and the end of the connection.
    Cut,
    /// A line that does not end, for 64 MiB.
    EndlessLine,
}

impl Proxy {
    pub(crate) async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (line, seen) = watch::channel(Line::default());
        let accepted = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&accepted);
        let accepting = tokio::spawn(async move {
            loop {
                let Ok((client, _)) = listener.accept().await else { continue };
                count.fetch_add(1, Relaxed);
                if !seen.borrow().refuses {
                    tokio::spawn(connection(client, server, seen.clone()));
                }
            }
        });
        Self { address, line, accepted, accepting }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://{}/", self.address)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections were made so far, the refused ones among them.
    pub(crate) fn connections(&self) -> usize {
        self.accepted.load(Relaxed)
    }

    /// Everything takes this much longer to get there, and back.
    pub(crate) fn delay(&self, there: Duration, back: Duration) {
        self.line.send_modify(|line| (line.there, line.back) = (there, back));
    }

    /// Nothing comes through: it is held back, and comes late when this is over, as TCP has it.
    pub(crate) fn hold(&self, holds: bool) {
        self.line.send_modify(|line| line.holds = holds);
    }

    /// Ends each connection that there is.
    pub(crate) fn cut(&self) {
        self.line.send_modify(|line| line.cuts += 1);
    }

    /// Ends new connections at once.
    pub(crate) fn refuse(&self, refuses: bool) {
        self.line.send_modify(|line| line.refuses = refuses);
    }

    /// Loses what is published, and that alone: nobody on the line can tell.
    pub(crate) fn lose_messages(&self, loses_messages: bool) {
        self.line.send_modify(|line| line.loses_messages = loses_messages);
    }

    /// Another one says this to the server, ahead of that command of those that come from now on: the first one is 0, and
    /// questions who the server is do not count.
    pub(crate) fn say_ahead_of(&self, command: usize, said: &[&[&str]]) {
        // Whose answers nobody waits for.
        let unanswered = said.iter().flat_map(|said| [&["CLIENT", "REPLY", "SKIP"], *said]);
        let said = unanswered.map(frame::command).collect::<String>();
        *self.line.borrow().between.lock().unwrap() = Some((command, said.into()));
    }

    /// Whether it was not said yet. It will not be any more.
    pub(crate) fn is_still_to_say(&self) -> bool {
        self.line.borrow().between.lock().unwrap().take().is_some()
    }

    /// The server does what it is told, and something else is said in its place.
    pub(crate) fn answer(&self, answers: Option<Nonsense>) {
        self.line.send_modify(|line| line.answers = answers);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut();
    }
}

impl Line {
    /// A command, and what is said ahead of it.
    fn ahead_of(&self, command: BytesMut) -> (Bytes, bool) {
        let asks_who = matches!(command.get(8..12), Some(b"INFO" | b"PING"));
        let mut between = self.between.lock().unwrap();
        match between.take() {
            Some((0, said)) if !asks_who => return ([said, command.freeze()].concat().into(), false),
            Some((left, said)) => *between = Some((left - usize::from(!asks_who), said)),
            None => {}
        }
        (command.freeze(), false)
    }

    /// What comes in place of an answer, and whether the connection is over with it.
    fn turn(&self, answer: BytesMut) -> (Bytes, bool) {
        if self.loses_messages && answer.starts_with(b">3\r\n$7\r\nmessage\r\n") {
            return (Bytes::new(), false);
        }
        match self.answers {
            None => (answer.freeze(), false),
            Some(Nonsense::Bytes(bytes)) => (Bytes::from_static(bytes), false),
            Some(Nonsense::Random) => (repeat_with(|| fastrand::u8(..)).take(100).collect(), false),
            Some(Nonsense::Cut) => (answer.freeze().slice(..1), true),
            Some(Nonsense::EndlessLine) => (repeat_n(b'+', 64 << 20).collect(), false),
        }
    }
}

/// Ends with one of its ends, or when it is cut.
async fn connection(client: TcpStream, server: SocketAddr, mut line: watch::Receiver<Line>) {
    let cuts = line.borrow().cuts;
    let Ok(server) = TcpStream::connect(server).await else { return };
    // What waits for an acknowledgement is late: nobody has asked for that.
    let _all = (client.set_nodelay(true), server.set_nodelay(true));
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    let there = pump(from_client, to_server, line.clone(), |line| line.there, frame::length, Line::ahead_of);
    let back = pump(from_server, to_client, line.clone(), |line| line.back, frame::length, Line::turn);
    tokio::select! {
        _ = there => {}
        _ = back => {}
        _ = line.wait_for(|line| line.cuts > cuts) => {}
    }
}

/// Passes on one piece after the other, each when it is due.
async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut line: watch::Receiver<Line>,
    delay: fn(&Line) -> Duration,
    length: fn(&[u8]) -> Option<usize>,
    turn: fn(&Line, BytesMut) -> (Bytes, bool),
) -> io::Result<()> {
    let (under_way, mut arriving) = mpsc::unbounded_channel();
    let now = line.clone();
    let send = async move {
        let mut read = BytesMut::new();
        while from.read_buf(&mut read).await? > 0 {
            while let Some(length) = length(&read).filter(|length| *length > 0) {
                let line = now.borrow();
                let (piece, is_last) = turn(&line, read.split_to(length));
                let _ = under_way.send((Instant::now() + delay(&line), piece));
                if is_last {
                    return Ok(());
                }
            }
        }
        Ok(())
    };
    let deliver = async {
        while let Some((due, piece)) = arriving.recv().await {
            sleep_until(due).await;
            let _ = line.wait_for(|line| !line.holds).await;
            to.write_all(&piece).await?;
        }
        Ok(())
    };
    tokio::try_join!(send, deliver).map(drop)
}

//! A server that answers what a test tells it to.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

type Answers = dyn Fn(&str) -> Option<String> + Send + Sync;

/// It introduces itself as a master, and answers the rest as it is told.
pub(in crate::store::redis) struct Scripted {
    pub(super) port: u16,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Scripted {
    /// Asked what is none of this, it is content.
    pub(in crate::store::redis) fn start(answers: impl Fn(&str) -> Option<String> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (port, asked, answers) = (listener.local_addr().unwrap().port(), Arc::default(), Arc::new(answers));
        let server = Self { port, asked: Arc::clone(&asked) };
        thread::spawn(move || {
            for connection in listener.incoming() {
                let (answers, asked) = (Arc::clone(&answers), Arc::clone(&asked));
                thread::spawn(move || serve(&connection?, port, &*answers, &asked));
            }
        });
        server
    }

    pub(in crate::store::redis) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// What it was asked, but for who it is.
    pub(in crate::store::redis) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn serve(connection: &TcpStream, port: u16, answers: &Answers, asked: &Mutex<Vec<String>>) -> io::Result<()> {
    let mut reader = BufReader::new(connection);
    loop {
        let words = (0..number(&mut reader)?).map(|_| {
            let mut word = vec![0; number(&mut reader)? + 2];
            reader.read_exact(&mut word)?;
            Ok(String::from_utf8_lossy(&word[..word.len() - 2]).into_owned())
        });
        let words = words.collect::<io::Result<Vec<_>>>()?.join(" ");
        let answer = answers(&words).unwrap_or_else(|| introduction(&words, port).unwrap_or_else(|| "+OK\r\n".into()));
        if introduction(&words, port).is_none() {
            asked.lock().unwrap().push(words);
        }
        (&*connection).write_all(answer.as_bytes())?;
    }
}

/// The number of what follows.
fn number(reader: &mut impl BufRead) -> io::Result<usize> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    line.trim_end().get(1..).and_then(|number| number.parse().ok()).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn introduction(words: &str, port: u16) -> Option<String> {
    Some(match words.split(' ').next()? {
        "HELLO" => "%1\r\n+proto\r\n:3\r\n".into(),
        "CLIENT" => "+OK\r\n".into(),
        "SUBSCRIBE" => ">3\r\n+subscribe\r\n+news\r\n:1\r\n".into(),
        "INFO" => bulk(&format!("run_id:{port}\r\nmaster_replid:0\r\nrole:master\r\n")),
        "PING" => "+PONG\r\n".into(),
        _ => return None,
    })
}

pub(super) fn bulk(text: &str) -> String {
    format!("${}\r\n{text}\r\n", text.len())
}

//! HTTP/1 as it stands on the wire: what one side wrote, read to the end that it states.

use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpStream, ToSocketAddrs},
};

use crate::clock::in_time;

/// One message: its head as text, its body without framing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Message {
    /// The first line.
    pub(crate) line: String,
    /// The field lines, as they came.
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Vec<(String, String)>,
    /// The message ended where it says that it ends.
    pub(crate) whole: bool,
}

/// A client's connection.
#[derive(Debug)]
pub(crate) struct Connection(BufReader<TcpStream>);

impl Message {
    /// A field's lines, one after the other; empty where there is none.
    pub(crate) fn field(&self, name: &str) -> String {
        let lines = self.fields.iter().filter(|(line, _)| line.eq_ignore_ascii_case(name));
        lines.map(|(_, value)| value.as_str()).collect::<Vec<_>>().join("|")
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.fields.iter().any(|(line, _)| line.eq_ignore_ascii_case(name))
    }

    /// Of a response.
    pub(crate) fn status(&self) -> u16 {
        self.line.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status line")
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("these bodies are text")
    }

    /// What the cache says that it did.
    pub(crate) fn said(&self) -> String {
        let said = self.field("cache-status");
        said.strip_prefix("cacheback; ").unwrap_or(&said).to_owned()
    }

    pub(crate) fn is_hit(&self) -> bool {
        self.said().starts_with("hit")
    }
}

impl Connection {
    pub(crate) async fn open(address: impl ToSocketAddrs) -> Self {
        let stream = TcpStream::connect(address).await.expect("the proxy listens");
        Self(BufReader::new(stream))
    }

    pub(crate) async fn send(&mut self, text: impl AsRef<[u8]>) {
        // Whoever closed the connection may have answered before.
        let _gone = self.0.write_all(text.as_ref()).await;
    }

    /// Reads one response, of which a request with this method is answered.
    pub(crate) async fn answer_to(&mut self, method: &str) -> Message {
        in_time(read(&mut self.0, Some(method))).await.expect("an answer")
    }

    pub(crate) async fn answer(&mut self) -> Message {
        self.answer_to("GET").await
    }

    /// Reads the head of a response, and of its body just so many bytes.
    pub(crate) async fn begin_answer(&mut self, bytes: usize) -> (String, Vec<u8>) {
        in_time(async {
            let (line, fields) = read_head(&mut self.0).await.expect("a head");
            let mut body = vec![0; bytes];
            self.0.read_exact(&mut body).await.expect("the beginning of a body");
            (format!("{line}{fields:?}"), body)
        })
        .await
    }

    /// Says that nothing more comes.
    pub(crate) async fn end(&mut self) {
        let _gone = self.0.shutdown().await;
    }

    /// Whatever the other side still says, until it closes the connection or breaks it off.
    pub(crate) async fn rest(&mut self) -> String {
        let mut rest = Vec::new();
        let _broken = in_time(self.0.read_to_end(&mut rest)).await;
        String::from_utf8_lossy(&rest).into_owned()
    }

    /// Whether the other side has closed the connection; what it says before is left out.
    pub(crate) async fn is_closed(&mut self) -> bool {
        in_time(async { self.0.read_to_end(&mut Vec::new()).await.is_ok() }).await
    }
}

/// Reads a message to its end: a request, or the response to a method. `None` if there is none any more.
pub(crate) async fn read(from: &mut BufReader<impl AsyncRead + Unpin>, response_to: Option<&str>) -> Option<Message> {
    let (line, fields) = read_head(from).await?;
    let mut message = Message { line, fields, ..Message::default() };
    let bodiless =
        response_to.is_some_and(|method| method == "HEAD" || matches!(message.status(), 100..200 | 204 | 304));
    let chunked = message.field("transfer-encoding").to_ascii_lowercase().contains("chunked");
    let length = message.field("content-length").parse().ok();
    message.whole = match length {
        _ if bodiless => true,
        _ if chunked => read_chunks(from, &mut message).await.is_some(),
        Some(length) => read_bytes(from, &mut message.body, length).await.is_some(),
        None if response_to.is_none() => true,
        None => from.read_to_end(&mut message.body).await.is_ok(),
    };
    Some(message)
}

async fn read_head(from: &mut BufReader<impl AsyncRead + Unpin>) -> Option<(String, Vec<(String, String)>)> {
    let line = read_line(from).await.filter(|line| !line.is_empty())?;
    Some((line, read_fields(from).await?))
}

async fn read_fields(from: &mut BufReader<impl AsyncRead + Unpin>) -> Option<Vec<(String, String)>> {
    let mut fields = Vec::new();
    loop {
        let line = read_line(from).await?;
        if line.is_empty() {
            return Some(fields);
        }
        let (name, value) = line.split_once(':')?;
        fields.push((name.to_owned(), value.trim().to_owned()));
    }
}

async fn read_chunks(from: &mut BufReader<impl AsyncRead + Unpin>, message: &mut Message) -> Option<()> {
    loop {
        let length = usize::from_str_radix(&read_line(from).await?, 16).ok()?;
        if length == 0 {
            message.trailers = read_fields(from).await?;
            return Some(());
        }
        read_bytes(from, &mut message.body, length).await?;
        read_line(from).await?;
    }
}

/// Reads so many bytes, or all that there are.
async fn read_bytes(from: &mut BufReader<impl AsyncRead + Unpin>, into: &mut Vec<u8>, length: usize) -> Option<()> {
    let read = from.take(length as u64).read_to_end(into).await.ok()?;
    (read == length).then_some(())
}

/// A line without its end; `None` where there is no whole one.
async fn read_line(from: &mut BufReader<impl AsyncRead + Unpin>) -> Option<String> {
    let mut line = Vec::new();
    from.read_until(b'\n', &mut line).await.ok()?;
    let line = line.strip_suffix(b"\n")?;
    Some(String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line)).into_owned())
}

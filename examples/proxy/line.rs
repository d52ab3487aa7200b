//! The line of log that each request has, whatever becomes of it.

use std::time::Instant;

use cacheback::Outcome;
use http::{Method, Request, Response, Uri};

/// Writes itself when it is told the answer, and else when it is dropped: then the client has left before.
#[derive(Debug)]
pub(crate) struct Line {
    begun: Instant,
    method: Method,
    uri: Uri,
    answered: bool,
}

/// What servers log in place of a status where there is nobody to answer any more.
const LEFT: u16 = 499;

impl Line {
    #[allow(clippy::disallowed_methods, reason = "how long an answer took is for the log alone")]
    pub(crate) fn begin<B>(request: &Request<B>) -> Self {
        let (method, uri) = (request.method().clone(), request.uri().clone());
        Self { begun: Instant::now(), method, uri, answered: false }
    }

    pub(crate) fn end<B>(mut self, answer: &Response<B>) {
        self.answered = true;
        self.write(answer.status().as_u16(), answer.extensions().get());
    }

    fn write(&self, status: u16, outcome: Option<&Outcome>) {
        if tracing::enabled!(target: "proxy", tracing::Level::INFO) {
            let did = outcome.map_or_else(|| "-".to_owned(), ToString::to_string);
            let (method, path, took) = (&self.method, self.uri.path(), self.begun.elapsed());
            tracing::info!(target: "proxy", "{method} {path} {status} ({did}) {took:?}");
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if !self.answered {
            self.write(LEFT, None);
        }
    }
}

//! What the command line says.

use std::{num::NonZeroUsize, time::Duration};

use http::{HeaderName, Uri, header::InvalidHeaderName, uri::Authority};
use lexopt::{Arg, ValueExt};

pub(crate) const HELP: &str = "\
A caching reverse proxy: stores what the origin's responses let a shared cache store (RFC 9111).

    --listen ADDRESS              where clients connect; default 127.0.0.1:8080
    --origin URL                  whose responses are cached, http:// with a host; required
    --memory MIB                  for stored responses and what is known of them; default 64
    --body-cap KIB                the largest body that is stored; default 1024
    --connections NUMBER          how many clients are served at one time, others wait; default 4096
    --timeout SECONDS             how long the origin may take to begin its answer once it has the request, and how long
                                  either side may pause in a body; default 60
    --grace SECONDS               how long exchanges may go on at the end; default 5
    --honor-request-directives    `Cache-Control` of requests counts (no-cache, max-age, only-if-cached, ...)
    --targeted NAME[,NAME...]     response fields that count before `Cache-Control` (RFC 9213), the first one first;
                                  default Cacheback-Cache-Control
    --stale-if-error SECONDS      how long a stale response may stand in for an origin that fails, where the response
                                  says nothing of it; default not at all (RFC 9111, 4.2.4)
    --heuristic                   a lifetime guessed from Last-Modified where none is stated (RFC 9111, 4.2.2)
    -h, --help                    this

RUST_LOG=proxy=info logs a line for each request, and why the origin could not be asked.";

#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) listen: String,
    /// `http`, an authority, and nothing else.
    pub(crate) origin: Authority,
    /// In bytes.
    pub(crate) memory: usize,
    /// In bytes; without it the layer's own.
    pub(crate) body_cap: Option<usize>,
    /// Of clients, at one time.
    pub(crate) connections: usize,
    pub(crate) timeout: Duration,
    pub(crate) grace: Duration,
    pub(crate) honor_request_directives: bool,
    /// Without it the layer's own.
    pub(crate) targeted: Option<Vec<HeaderName>>,
    pub(crate) heuristic: bool,
    /// Without it as long as each response says.
    pub(crate) stale_if_error: Option<Duration>,
}

impl Options {
    /// The defaults, in front of this origin.
    pub(crate) fn to(origin: Authority) -> Self {
        Self {
            listen: "127.0.0.1:8080".to_owned(),
            origin,
            memory: 64 << 20,
            body_cap: None,
            connections: 4096,
            timeout: Duration::from_secs(60),
            grace: Duration::from_secs(5),
            honor_request_directives: false,
            targeted: None,
            heuristic: false,
            stale_if_error: None,
        }
    }

    /// What the arguments say; `None` if they ask for help.
    pub(crate) fn parse(mut arguments: lexopt::Parser) -> Result<Option<Self>, lexopt::Error> {
        // A placeholder until the origin is known: without one nothing is served.
        let mut options = Self::to(Authority::from_static("localhost"));
        let mut origin = None;
        while let Some(argument) = arguments.next()? {
            match argument {
                Arg::Long("listen") => options.listen = arguments.value()?.string()?,
                Arg::Long("origin") => origin = Some(arguments.value()?.parse_with(authority)?),
                Arg::Long("memory") => options.memory = arguments.value()?.parse_with(|mib| scaled(mib, 1 << 20))?,
                Arg::Long("body-cap") => {
                    options.body_cap = Some(arguments.value()?.parse_with(|kib| scaled(kib, 1 << 10))?);
                }
                Arg::Long("connections") => options.connections = arguments.value()?.parse::<NonZeroUsize>()?.get(),
                Arg::Long("timeout") => options.timeout = Duration::from_secs(arguments.value()?.parse()?),
                Arg::Long("grace") => options.grace = Duration::from_secs(arguments.value()?.parse()?),
                Arg::Long("honor-request-directives") => options.honor_request_directives = true,
                Arg::Long("targeted") => {
                    options.targeted = Some(arguments.value()?.parse_with(field_names)?);
                }
                Arg::Long("stale-if-error") => {
                    options.stale_if_error = Some(Duration::from_secs(arguments.value()?.parse()?));
                }
                Arg::Long("heuristic") => options.heuristic = true,
                Arg::Short('h') | Arg::Long("help") => return Ok(None),
                _ => return Err(argument.unexpected()),
            }
        }
        options.origin = origin.ok_or("--origin is missing")?;
        Ok(Some(options))
    }
}

/// The authority of an `http` URL that has nothing else.
fn authority(url: &str) -> Result<Authority, String> {
    let parts = url.parse::<Uri>().map_err(|error| error.to_string())?.into_parts();
    if parts.scheme.is_none_or(|scheme| scheme != http::uri::Scheme::HTTP) {
        return Err("the origin is spoken to in plain HTTP: http://host or http://host:port".to_owned());
    }
    if parts.path_and_query.is_some_and(|path| path != "/") {
        return Err("an origin is a host and a port, without a path".to_owned());
    }
    match parts.authority {
        Some(authority) if !authority.as_str().contains('@') => Ok(authority),
        _ => Err("an origin is a host and a port".to_owned()),
    }
}

/// The names of a list with commas.
fn field_names(list: &str) -> Result<Vec<HeaderName>, InvalidHeaderName> {
    list.split(',').map(|name| name.trim().parse()).collect()
}

fn scaled(number: &str, unit: usize) -> Result<usize, String> {
    let number: usize = number.parse().map_err(|_| "a whole number is wanted".to_owned())?;
    number.checked_mul(unit).ok_or_else(|| "that is more than there can be".to_owned())
}

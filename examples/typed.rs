//! Run with `cargo run --example typed`: it prints who asks for what, and what he is answered.
//!
//! A weather office. Its instruments are a tower service like any other, with a layer around it: what they measure lives
//! until they measure again, visitors may have it stale, and pilots may not. Its forecasts come from an async function that
//! takes its time: who asks first is told so at once, and nobody waits for it.

use std::{
    error::Error,
    fmt,
    future::{Ready, ready},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI32, Ordering::SeqCst},
    },
    task::{Context, Poll},
    time::Duration,
};

use cacheback::{Cacheback, CachebackLayer, CachedFunction, Key, Placeholder, Typed};
use tower::{Layer, Service};

/// A request: what is to be measured, and for whom.
#[derive(Clone, Debug)]
pub(crate) struct Measure {
    pub(crate) station: &'static str,
    pub(crate) for_a_pilot: bool,
}

/// A response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Measured {
    pub(crate) celsius: i32,
    pub(crate) next_in: Duration,
    /// Whether a newer one is on its way.
    pub(crate) outdated: bool,
}

/// An error, of which a cache wants to know nothing.
#[derive(Debug)]
pub(crate) struct OutOfReach;

/// The service. It gets one degree warmer with each measurement.
#[derive(Clone, Default)]
pub(crate) struct Instruments {
    celsius: Arc<AtomicI32>,
    out_of_reach: Arc<AtomicBool>,
}

pub(crate) struct Office {
    pub(crate) measurements: Cacheback<Instruments, Typed<Measure, Measured>>,
    pub(crate) forecasts: CachedFunction<&'static str, Arc<str>, OutOfReach>,
    instruments: Instruments,
}

impl Office {
    pub(crate) fn new() -> Self {
        let instruments = Instruments::default();
        // Who asks makes no difference to what is measured, so it is no part of the key.
        let measurements = CachebackLayer::typed::<Measure, Measured>(|measure| Key::from(measure.station))
            .freshness_by(|_, measured| measured.next_in)
            .max_stale(|measure| measure.for_a_pilot.then_some(Duration::ZERO))
            .on_outcome(|measured, outcome| measured.outdated = outcome.is_stale())
            .layer(instruments.clone());
        let forecasts = CachebackLayer::typed::<&'static str, Arc<str>>(|region| Key::from(*region))
            .freshness(Duration::from_secs(3_600))
            .weigh(|text| size_of::<Arc<str>>() + text.len())
            .on_miss(Placeholder("It is being worked out.".into()))
            .function(forecast);
        Self { measurements, forecasts, instruments }
    }

    /// Cuts the line to the instruments, or mends it.
    pub(crate) fn cut(&self, cut: bool) {
        self.instruments.out_of_reach.store(cut, SeqCst);
    }
}

/// A model that runs for long, as far as anybody knows.
async fn forecast(region: &'static str) -> Result<Arc<str>, OutOfReach> {
    tokio::task::yield_now().await;
    Ok(format!("Rain over {region}.").into())
}

impl Service<Measure> for Instruments {
    type Response = Measured;
    type Error = OutOfReach;
    type Future = Ready<Result<Measured, OutOfReach>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), OutOfReach>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Measure) -> Self::Future {
        if self.out_of_reach.load(SeqCst) {
            return ready(Err(OutOfReach));
        }
        let celsius = self.celsius.fetch_add(1, SeqCst) + 1;
        ready(Ok(Measured { celsius, next_in: Duration::from_secs(600), outdated: false }))
    }
}

impl fmt::Display for OutOfReach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the station is out of reach")
    }
}

impl Error for OutOfReach {}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let office = Office::new();
    let visitor = Measure { station: "Bergen", for_a_pilot: false };
    let pilot = Measure { for_a_pilot: true, ..visitor.clone() };
    let say = |who: &str, measured: Measured| println!("{who:<44} {measured:?}");

    say("A visitor: it is measured.", office.measurements.get(visitor.clone()).await?);
    say("A pilot: out of memory, it is fresh.", office.measurements.get(pilot.clone()).await?);

    office.measurements.expire(&visitor).await?;
    println!("\nThe weather has changed: what is stored is stale from now on.\n");
    office.cut(true);
    say("The line is cut. A pilot: better than nothing.", office.measurements.get(pilot.clone()).await?);
    office.cut(false);
    office.measurements.expire(&visitor).await?;
    say("A visitor: stale, at once.", office.measurements.get(visitor.clone()).await?);
    say("A pilot: a new one, whatever is stored.", office.measurements.refresh(pilot).await?);
    say("A visitor: the new one.", office.measurements.get(visitor).await?);

    println!("\nThe forecast: {}", office.forecasts.get("Bergen").await?);
    office.forecasts.cache().settled().await;
    println!("A moment later: {}", office.forecasts.get("Bergen").await?);
    Ok(())
}

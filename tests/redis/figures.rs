//! What a Redis in trouble costs: a row for each scenario in a table that tests/all.sh prints at the end.
#![allow(dead_code, reason = "scenarios use it")]

use std::{
    fs::OpenOptions,
    io::Write,
    path::Path,
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use tokio::time::Instant;

#[derive(Debug)]
pub(crate) struct Figures {
    scenario: &'static str,
    row: Mutex<Row>,
}

#[derive(Debug, Default)]
struct Row {
    requests: usize,
    failed: usize,
    /// The longest request that began while all was well; that did in trouble of which nobody knew yet; and that did
    /// while the breaker was open.
    longest: [Option<Duration>; 3],
    phase: usize,
    is_back: Option<Instant>,
    recovery: Option<Duration>,
}

impl Figures {
    pub(crate) fn of(scenario: &'static str) -> Self {
        Self { scenario, row: Mutex::default() }
    }

    /// Sends a request to a service that answers at once: the time that it takes is the cache's.
    pub(crate) async fn request<T, E>(&self, request: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        let (began, phase) = (Instant::now(), self.row().phase);
        let response = request.await;
        let mut row = self.row();
        row.longest[phase] = row.longest[phase].max(Some(began.elapsed()));
        row.requests += 1;
        row.failed += usize::from(response.is_err());
        response
    }

    /// From now on something is wrong.
    pub(crate) fn trouble(&self) {
        self.row().phase = 1;
    }

    /// From now on the breaker is open.
    pub(crate) fn is_down(&self) {
        self.row().phase = 2;
    }

    /// From now on nothing is wrong any more.
    pub(crate) fn is_back(&self) {
        self.row().is_back = Some(Instant::now());
    }

    /// From now on instances share what they make again.
    pub(crate) fn works_again(&self) {
        let mut row = self.row();
        row.phase = 0;
        row.recovery = row.is_back.map(|back| back.elapsed());
    }

    /// Writes the row. Of its figures one is a promise: no request has failed.
    pub(crate) fn end(self) {
        assert_eq!(self.row().failed, 0, "{}: requests failed because of the cache", self.scenario);
        // The table is about one server; others are tried without.
        if std::env::var_os("REDIS_SERVER").is_none() {
            let table = Path::new(env!("CARGO_TARGET_TMPDIR")).join("redis-figures");
            let table = OpenOptions::new().create(true).append(true).open(table);
            // In one piece: other tests write theirs at the same time.
            table.and_then(|mut table| table.write_all(self.text().as_bytes())).unwrap();
        }
    }

    fn text(&self) -> String {
        let (scenario, row) = (self.scenario, self.row());
        let [well, trouble, down] = row.longest.map(milliseconds);
        let (requests, failed, recovery) = (row.requests, row.failed, milliseconds(row.recovery));
        format!(
            "| {scenario:<40} | {requests:>8} | {failed:>6} | {well:>9} | {trouble:>9} | {down:>9} | {recovery:>9} |\n"
        )
    }

    fn row(&self) -> MutexGuard<'_, Row> {
        self.row.lock().unwrap()
    }
}

fn milliseconds(time: Option<Duration>) -> String {
    time.map_or_else(String::new, |time| format!("{:.1} ms", time.as_secs_f64() * 1e3))
}

#[tokio::test(start_paused = true)]
async fn a_row_says_how_many_requests_there_were_and_the_longest_of_each_phase() {
    let figures = Figures::of("all at once");
    let takes = |time| async move { tokio::time::sleep(Duration::from_millis(time)).await };
    let request = |time| async move {
        takes(time).await;
        Ok::<_, ()>(())
    };
    for time in [1, 3, 2] {
        figures.request(request(time)).await.unwrap();
    }
    figures.trouble();
    figures.request(request(100)).await.unwrap();
    figures.is_down();
    figures.request(request(4)).await.unwrap();
    figures.is_back();
    takes(50).await;
    figures.works_again();
    figures.request(request(1)).await.unwrap();
    let text = figures.text();
    let row: Vec<_> = text.trim().split('|').map(str::trim).collect();
    assert_eq!(row, ["", "all at once", "6", "0", "3.0 ms", "100.0 ms", "4.0 ms", "50.0 ms", ""]);
}

#[tokio::test]
#[should_panic(expected = "requests failed because of the cache")]
async fn a_scenario_in_which_a_request_fails_has_no_row() {
    let figures = Figures::of("a failure");
    let _ = figures.request(async { Err::<(), _>(()) }).await;
    figures.end();
}

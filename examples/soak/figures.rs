//! What is counted, and what must never be: violations.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicU64, Ordering::Relaxed},
};

/// Violations that are printed; all of them are counted.
const PRINTED: u64 = 20;

/// Writes down once what is counted: a variant, and the words that stand for it in the table.
macro_rules! counts {
    ($($variant:ident = $words:literal,)+) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Count {
            $($variant,)+
        }

        impl Count {
            pub(crate) const ALL: &[Self] = &[$(Self::$variant),+];

            pub(crate) const fn words(self) -> &'static str {
                match self {
                    $(Self::$variant => $words,)+
                }
            }
        }
    };
}

counts! {
    Operations = "operations",
    Runs = "runs",
    // ---- answers, by what the cache said of them ----
    Hits = "hits",
    StaleHits = "stale hits",
    Misses = "misses",
    Collapsed = "collapsed",
    Bypassed = "bypassed",
    TypedAnswers = "typed answers",
    StaleInstead = "stale in place of a failure, or of a long wait",
    Personal = "personal answers",
    Failed = "failures of the origin that came through",
    Panicked = "panics among them, and among typed answers",
    Unfinished = "bodies that broke off",
    // ---- what was done to the caches ----
    Purges = "purges",
    Expiries = "expiries",
    Posts = "posts that purged",
    Puts = "responses put by hand",
    PutsRefused = "responses put by hand, and refused",
    Forced = "forced runs",
    Peeks = "peeked responses",
    // ---- faults of the origin ----
    Errors = "fault: errors",
    Panics = "fault: panics",
    ServerErrors = "fault: 5xx",
    TooMany = "fault: 429",
    NotFound = "fault: 404",
    Slow = "fault: slow answers",
    Hangs = "fault: hangs",
    Privates = "fault: private",
    Cookies = "fault: set-cookie",
    LargeBodies = "fault: bodies over the cap",
    SlowBodies = "fault: slow bodies",
    BrokenBodies = "fault: bodies that fail",
    PanickingBodies = "fault: bodies that panic",
    ShortBodies = "fault: bodies shorter than they say",
    // ---- faults of the clients ----
    LeftBeforeHead = "fault: clients that left before the head",
    LeftInBody = "fault: clients that left in mid-body",
    SlowReads = "fault: pauses of clients that read slowly",
    Runtimes = "fault: runtimes dropped under their clients",
    // ---- exceptions ----
    Together = "pairs of runs of one key at one time, allowed",
}

pub(crate) struct Figures {
    counts: Vec<AtomicU64>,
    violations: AtomicU64,
    /// Keeps what is printed apart.
    printing: Mutex<()>,
}

impl Figures {
    pub(crate) fn new() -> Self {
        Self {
            counts: Count::ALL.iter().map(|_| AtomicU64::new(0)).collect(),
            violations: AtomicU64::new(0),
            printing: Mutex::new(()),
        }
    }

    pub(crate) fn count(&self, count: Count) {
        self.counts[count as usize].fetch_add(1, Relaxed);
    }

    pub(crate) fn of(&self, count: Count) -> u64 {
        self.counts[count as usize].load(Relaxed)
    }

    /// A promise was broken.
    pub(crate) fn violation(&self, what: &str) {
        let before = self.violations.fetch_add(1, Relaxed);
        if before < PRINTED {
            let _whole_lines = self.printing.lock().unwrap_or_else(PoisonError::into_inner);
            eprintln!("VIOLATION: {what}");
        }
    }

    pub(crate) fn violations(&self) -> u64 {
        self.violations.load(Relaxed)
    }

    /// One line for the moment.
    pub(crate) fn line(&self) -> String {
        let main = [Count::Operations, Count::Runs, Count::Hits, Count::StaleHits, Count::Misses, Count::Collapsed];
        let counted = main.map(|count| format!("{} {}", self.of(count), count.words()));
        let invalidations = self.of(Count::Purges) + self.of(Count::Expiries) + self.of(Count::Posts);
        let faults: u64 =
            Count::ALL.iter().filter(|count| count.words().starts_with("fault")).map(|c| self.of(*c)).sum();
        let rest = format!("{invalidations} invalidations, {faults} faults, {} violations", self.violations());
        format!("{}, {rest}", counted.join(", "))
    }

    /// All of them.
    pub(crate) fn table(&self) -> String {
        let line = |count: &Count| format!("{:>12}  {}\n", self.of(*count), count.words());
        let counted: String = Count::ALL.iter().map(line).collect();
        format!("{counted}{:>12}  violations", self.violations())
    }
}

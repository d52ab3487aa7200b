//! An instance in a process of its own: this test program once more, with one test of it that listens to lines.
//!
//! ```ignore
//! let mut process = Process::start("module::an_instance");
//! process.tell("get a").await;
//! assert_eq!(process.says().await, "1");
//! process.kill();
//!
//! #[tokio::test]
//! #[ignore = "other tests start it in a process of its own"]
//! async fn an_instance() {
//!     while let Some(line) = processes::told().await {
//!         processes::say(&line);
//!     }
//! }
//! ```

use std::{fs, io::Write as _, process::Stdio, time::SystemTime};

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
};

use crate::servers::in_time;

/// What a process says stands on lines of its own, behind this: the test program prints other things too.
const MARK: &str = "| ";

/// Ends with its test.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    ears: ChildStdin,
    mouth: Lines<BufReader<ChildStdout>>,
}

impl Process {
    /// With a test, by its path below the root of this program.
    pub(crate) fn start(test: &str) -> Self {
        Self::run(&mut program(test))
    }

    /// Whose time of day is another: `+15m`.
    pub(crate) fn start_at(test: &str, time: &str) -> Self {
        let library =
            fs::read_dir("/usr/lib").unwrap().map(|folder| folder.unwrap().path().join("faketime/libfaketime.so.1"));
        let library =
            library.into_iter().find(|library| library.exists()).expect("Debian's package faketime is installed");
        let mut program = program(test);
        program.env("LD_PRELOAD", library).env("FAKETIME", time).env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        Self::run(&mut program)
    }

    fn run(program: &mut Command) -> Self {
        let mut child = program.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        let (ears, mouth) = (child.stdin.take().expect("piped"), child.stdout.take().expect("piped"));
        Self { child, ears, mouth: BufReader::new(mouth).lines() }
    }

    pub(crate) async fn tell(&mut self, line: &str) {
        self.ears.write_all(format!("{line}\n").as_bytes()).await.unwrap();
    }

    /// The next line that it says, in good time.
    pub(crate) async fn says(&mut self) -> String {
        let next = async {
            loop {
                let line = self.mouth.next_line().await.unwrap().expect("it has more to say");
                if let Some(said) = line.strip_prefix(MARK) {
                    break said.to_owned();
                }
            }
        };
        in_time("it says something", next).await
    }

    /// Ends it where it stands: nothing in it is dropped.
    pub(crate) async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }
}

fn program(test: &str) -> Command {
    let mut program = Command::new(std::env::current_exe().unwrap());
    program.args([test, "--exact", "--ignored", "--nocapture"]);
    program
}

/// In such a process: the lines that it is told.
pub(crate) fn told() -> Lines<BufReader<tokio::io::Stdin>> {
    BufReader::new(tokio::io::stdin()).lines()
}

/// In such a process: says a line.
pub(crate) fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    // The program may be in the middle of a line.
    write!(out, "\n{MARK}{line}\n").unwrap();
    out.flush().unwrap();
}

#[tokio::test]
async fn a_process_is_told_says_and_is_killed() {
    let [mut one, mut other] = [(); 2].map(|()| Process::start("processes::an_echo"));
    for process in [&mut one, &mut other] {
        process.tell("who").await;
        process.tell("more").await;
    }
    let ids = [one.says().await, other.says().await];
    assert_ne!(ids[0], ids[1]);
    one.kill().await;
    assert_eq!(other.says().await, "more");
}

#[tokio::test]
async fn a_process_has_a_time_of_day_of_its_own() {
    let mut process = Process::start_at("processes::an_echo", "+15m");
    process.tell("when").await;
    let time: u64 = process.says().await.parse().unwrap();
    assert!(time > now() + 14 * 60, "{time}");
}

fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}

#[tokio::test]
#[ignore = "other tests start it in a process of its own"]
async fn an_echo() {
    let mut told = told();
    while let Some(line) = told.next_line().await.unwrap() {
        match &*line {
            "who" => say(&std::process::id().to_string()),
            "when" => say(&now().to_string()),
            _ => say(&line),
        }
    }
}

//! A real server for a test: a Redis by default, and whatever `REDIS_SERVER` names otherwise.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{self, Child, Stdio},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

use redis::Value;

/// A server that is reached by a socket in a directory of its own, and goes when this does.
pub(in crate::store::redis) struct Server {
    directory: PathBuf,
    process: Child,
}

impl Server {
    pub(in crate::store::redis) fn start(arguments: &[&str]) -> Self {
        Self::prepared(|_| (), arguments).expect("a server that starts")
    }

    /// One whose directory is prepared first; none if it ends at once.
    pub(super) fn prepared(prepare: impl Fn(&Path), arguments: &[&str]) -> Option<Self> {
        static STARTED: AtomicUsize = AtomicUsize::new(0);
        let name = format!("cacheback-{}-{}", process::id(), STARTED.fetch_add(1, Relaxed));
        let directory = env::temp_dir().join(name);
        fs::create_dir_all(&directory).unwrap();
        prepare(&directory);
        let mut server = Self { process: Self::spawn(&directory, arguments), directory };
        server.is_there().then_some(server)
    }

    fn spawn(directory: &Path, arguments: &[&str]) -> Child {
        let program = env::var_os("REDIS_SERVER").unwrap_or_else(|| "redis-server".into());
        process::Command::new(program)
            .args(["--port", "0", "--unixsocket", "socket", "--save", "", "--dir"])
            .arg(directory)
            .args(arguments)
            .stdout(Stdio::null())
            .spawn()
            .expect("a server is installed")
    }

    /// Whether it answers, once it does; or not, once it has ended.
    fn is_there(&mut self) -> bool {
        while fs::metadata(self.file("socket")).is_err() || self.client().is_err() {
            if self.process.try_wait().unwrap().is_some() {
                return false;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        true
    }

    /// A file in its directory.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    pub(in crate::store::redis) fn url(&self) -> String {
        format!("redis+unix://{}", self.file("socket").display())
    }

    pub(in crate::store::redis) fn client(&self) -> redis::RedisResult<redis::Connection> {
        redis::Client::open(self.url()).unwrap().get_connection()
    }

    /// What it answers to one who stands beside it.
    pub(in crate::store::redis) fn answer(&self, command: &str) -> Value {
        let mut words = command.split(' ');
        let mut command = redis::cmd(words.next().unwrap());
        command.arg(words.collect::<Vec<_>>());
        command.query(&mut self.client().unwrap()).unwrap()
    }

    pub(in crate::store::redis) fn calls(&self, command: &str) -> String {
        let stats: String = redis::cmd("INFO").arg("commandstats").query(&mut self.client().unwrap()).unwrap();
        let line =
            stats.lines().find_map(|line| line.strip_prefix("cmdstat_")?.strip_prefix(command)?.strip_prefix(':'));
        line.and_then(|line| line.split(',').next()).unwrap_or("calls=0").to_owned()
    }

    pub(in crate::store::redis) fn signal(&self, signal: &str) {
        let sent = process::Command::new("kill").args([signal, &self.process.id().to_string()]).status();
        assert!(sent.unwrap().success());
    }

    pub(in crate::store::redis) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    pub(in crate::store::redis) fn restart(&mut self) {
        self.process = Self::spawn(&self.directory, &[]);
        assert!(self.is_there());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        _ = self.process.kill();
        _ = self.process.wait();
        _ = fs::remove_dir_all(&self.directory);
    }
}

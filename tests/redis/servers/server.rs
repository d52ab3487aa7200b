//! One server: a Redis by default, and whatever `REDIS_SERVER` names otherwise.

use std::{
    env,
    ffi::OsString,
    fs,
    iter::repeat_with,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

use redis::{AsyncConnectionConfig, Client, FromRedisValue, RedisResult, aio::MultiplexedConnection};

use super::until;

/// Runs a server in the place of the shell, beside a watchman that kills it when the pipe from the test is closed: also a
/// test that was killed leaves no server behind.
const WATCHED: &str = r#"exec 3<&0; (read -r _ <&3; kill -9 $$) & exec "$@" </dev/null 3<&-"#;

/// No snapshot that nobody asked for, and replicas that are fed without delay.
const DATA: &str = "save \"\"\nrepl-diskless-sync-delay 0\nrepl-ping-replica-period 1\n";

#[derive(Debug)]
pub(crate) struct Server {
    process: Option<Child>,
    is_frozen: bool,
    directory: PathBuf,
    port: u16,
    /// How its configuration file is read: as that of a Sentinel, or not.
    mode: &'static [&'static str],
    password: Option<String>,
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::with(&[]).await
    }

    /// With lines of its configuration, such as `maxmemory 1mb`.
    pub(crate) async fn with(lines: &[&str]) -> Self {
        Self::new(&[], &format!("{DATA}{}\n", lines.join("\n"))).await
    }

    /// A Sentinel, which is the same program.
    pub(super) async fn sentinel(lines: &[&str]) -> Self {
        Self::new(&["--sentinel"], &lines.join("\n")).await
    }

    async fn new(mode: &'static [&'static str], lines: &str) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("redis-{}-{}", std::process::id(), COUNT.fetch_add(1, Relaxed));
        let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&directory).unwrap();
        let password = lines.lines().find_map(|line| Some(line.strip_prefix("requirepass ")?.to_owned()));
        let mut server = Self { process: None, is_frozen: false, directory, port: 0, mode, password };
        for _ in 0..20 {
            server.port = free_port();
            server.configure(lines);
            if server.comes_up().await {
                return server;
            }
        }
        panic!("{} does not start: {}", program().display(), server.log());
    }

    pub(crate) fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// With its password, where it wants one.
    pub(crate) fn url(&self) -> String {
        match &self.password {
            Some(password) => format!("redis://:{password}@{}/", self.address()),
            None => format!("redis://{}/", self.address()),
        }
    }

    /// What it says to a command, which is no error.
    pub(crate) async fn ask<T: FromRedisValue>(&self, command: &[&str]) -> T {
        self.try_to_ask(command).await.unwrap_or_else(|error| panic!("{command:?}: {error}"))
    }

    /// What it says to a command, over a connection that is made for it.
    pub(crate) async fn try_to_ask<T: FromRedisValue>(&self, command: &[&str]) -> RedisResult<T> {
        let mut cmd = redis::Cmd::new();
        cmd.arg(command);
        cmd.query_async(&mut self.connect().await?).await
    }

    /// For commands with bytes in them, and for more than one.
    pub(crate) async fn connect(&self) -> RedisResult<MultiplexedConnection> {
        connect(&self.url()).await
    }

    /// A field of what it says of itself.
    pub(crate) async fn info(&self, field: &str) -> Option<String> {
        let info: String = self.try_to_ask(&["INFO"]).await.ok()?;
        info.lines().find_map(|line| Some(line.strip_prefix(field)?.strip_prefix(':')?.to_owned()))
    }

    /// Ends it as a failing machine does: connections are reset, nothing is saved.
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            // Closes the pipe first.
            process.wait().unwrap();
            self.is_frozen = false;
        }
    }

    /// Whether it would answer.
    pub(crate) fn is_there(&self) -> bool {
        self.process.is_some() && !self.is_frozen
    }

    /// Freezes it: connections stay, and nothing is answered. The system goes on to accept new ones.
    pub(crate) fn stop(&mut self) {
        self.signal("STOP");
        self.is_frozen = true;
    }

    pub(crate) fn go_on(&mut self) {
        self.signal("CONT");
        self.is_frozen = false;
    }

    /// A replica loses touch with its master, and keeps what it has so far. It may take over all the same.
    pub(crate) async fn lose_touch(&self) {
        self.ask::<()>(&["CONFIG", "SET", "masterauth", "what nobody wants to know"]).await;
        self.ask::<()>(&["CLIENT", "KILL", "TYPE", "master"]).await;
        until("the line is down", async || self.info("master_link_status").await.as_deref() == Some("down")).await;
    }

    /// Writes a snapshot, which is what it has when it starts again.
    pub(crate) async fn save(&self) {
        self.ask::<()>(&["SAVE"]).await;
    }

    /// Starts it, or once more, at the same address and with what it had when it was saved the last time.
    pub(crate) async fn start_again(&mut self) {
        self.kill();
        // Somebody else's connection may have the port for a moment.
        for _ in 0..20 {
            if self.comes_up().await {
                return;
            }
        }
        panic!("it does not start again: {}", self.log());
    }

    pub(crate) async fn restart_with_its_data(&mut self) {
        self.save().await;
        self.start_again().await;
    }

    pub(crate) async fn restart_empty(&mut self) {
        self.kill();
        let _ = fs::remove_file(self.directory.join("dump.rdb"));
        self.start_again().await;
    }

    fn configure(&self, lines: &str) {
        let (port, directory) = (self.port, self.directory.display());
        let always = format!("bind 127.0.0.1\nport {port}\ndir \"{directory}\"\nlogfile log\n");
        fs::write(self.directory.join("conf"), always + lines).unwrap();
    }

    /// Whether it came up on its port: another one may have been faster.
    async fn comes_up(&mut self) -> bool {
        let mut shell = Command::new("sh");
        shell.args(["-c", WATCHED, "sh"]).arg(program()).arg(self.directory.join("conf")).args(self.mode);
        shell.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut process = shell.spawn().unwrap();
        let id = process.id().to_string();
        let mut is_over = false;
        until("a server starts", async || {
            is_over = process.try_wait().unwrap().is_some();
            is_over || self.info("process_id").await.is_some_and(|process| process == id)
        })
        .await;
        self.process = Some(process);
        !is_over
    }

    fn signal(&self, signal: &str) {
        let process = self.process.as_ref().expect("it runs").id();
        let sent = Command::new("sh").args(["-c", &format!("kill -{signal} {process}")]).status().unwrap();
        assert!(sent.success());
    }

    fn log(&self) -> String {
        fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// A connection to whoever is there, with patience.
pub(crate) async fn connect(url: &str) -> RedisResult<MultiplexedConnection> {
    let patience = Some(Duration::from_secs(30));
    let config = AsyncConnectionConfig::new().set_connection_timeout(patience).set_response_timeout(patience);
    Client::open(url)?.get_multiplexed_async_connection_with_config(&config).await
}

fn program() -> OsString {
    env::var_os("REDIS_SERVER").unwrap_or_else(|| "redis-server".into())
}

/// A port that is free, as is the one for a cluster's gossip, 10,000 above. Both are below those that systems give to
/// outgoing connections: while a server is down its port stays free.
fn free_port() -> u16 {
    let is_free = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
    let mut ports = repeat_with(|| fastrand::u16(12_000..22_000)).take(1_000);
    ports.find(|port| is_free(*port) && is_free(port + 10_000)).expect("of 10,000 ports one is free")
}

#[tokio::test]
async fn a_server_is_not_taken_for_another_that_has_its_port() {
    let (one, mut other) = (Server::start().await, Server::start().await);
    other.kill();
    other.port = one.port;
    other.configure(DATA);
    assert!(!other.comes_up().await);
}

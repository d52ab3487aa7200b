//! Connections that are encrypted, to a real server, by a process of its own: which certificates are trusted is said to
//! processes.

use std::{env, net::TcpListener, path::Path, process};

use super::{server::Server, *};

/// Says to the process where the server is.
const URL: &str = "CACHEBACK_ENCRYPTED_URL";

/// A certificate for `localhost`, and that of those who vouch for it.
fn certify(directory: &Path) {
    let made = |arguments: &[&str]| {
        let mut openssl = process::Command::new("openssl");
        openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]);
        let made = openssl.args(arguments).current_dir(directory).output().expect("openssl is installed");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    };
    made(&["-subj", "/CN=vouches", "-keyout", "vouches.key", "-out", "vouches.pem"]);
    let by = ["-CA", "vouches.pem", "-CAkey", "vouches.key", "-addext", "basicConstraints=critical,CA:FALSE"];
    let of =
        ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", "own.key", "-out", "own.pem"];
    made(&[by.as_slice(), &of].concat());
}

/// Tries to connect in a process that trusts these.
fn connects(trusted: &Path, url: &str) -> bool {
    let mut child = process::Command::new(env::current_exe().unwrap());
    child.args(["--ignored", "--exact", "store::redis::tests::encrypted::connecting"]);
    let ended = child.env("SSL_CERT_FILE", trusted).env(URL, url).output().unwrap();
    let told = String::from_utf8_lossy(&ended.stdout);
    assert!(told.contains("running 1 test"), "{told}");
    ended.status.success()
}

#[test]
#[ignore = "it is what the other test has done in processes of their own"]
fn connecting() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (servers, notes) = servers(config(&env::var(URL).unwrap()));
        servers.connect().await.unwrap();
        one(&servers, "PUBLISH news said").await.unwrap();
        until(|| notes.heard() == ["said"]).await;
    });
}

#[test]
fn a_server_is_spoken_to_by_those_who_trust_it_and_by_no_others() {
    // Somebody else may have taken the port meanwhile.
    let (server, port) = (0..10)
        .find_map(|_| {
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
            let tls = ["--tls-port", &port, "--tls-cert-file", "own.pem", "--tls-key-file", "own.key"];
            let others = ["--tls-ca-cert-file", "vouches.pem", "--tls-auth-clients", "no"];
            Some((Server::prepared(certify, &[tls.as_slice(), &others].concat())?, port))
        })
        .expect("a server that encrypts");
    let (vouches, own) = (server.file("vouches.pem"), server.file("own.pem"));
    assert!(connects(&vouches, &format!("rediss://localhost:{port}")));
    assert!(!connects(&own, &format!("rediss://localhost:{port}")), "not vouched for");
    assert!(!connects(&vouches, &format!("rediss://127.0.0.1:{port}")), "not its name");
    assert!(!connects(&vouches, &format!("redis://localhost:{port}")), "not encrypted");
}

//! A client of another make: what is on the wire is understood by somebody else's code.

use std::path::Path;

use cacheback::CachebackLayer;
use tokio::process::Command;
use tonic::{Response, Status, codec::CompressionEncoding};

use crate::stand::{GET, Origin, Stand, WATCH, a_minute, cents, quote};

#[tokio::test(start_paused = true)] // P80
#[ignore = "needs Python's grpcio: tests/all.sh installs it, and says by PYTHON where it is"]
async fn a_client_in_python_is_told_the_same() {
    let origin = Origin::new(|seen| match &*seen.share {
        "none" => Err(Status::not_found("no such share")),
        _ => Ok(Response::new(quote(seen))),
    });
    for stream in [&[1, 2, 3][..], &[9]] {
        let script = origin.stream();
        stream.iter().for_each(|quote| script.send(Ok(cents(*quote))).unwrap());
    }
    let layer = CachebackLayer::grpc().method(GET, a_minute()).method(WATCH, a_minute()).key_metadata("x-tenant");
    let server =
        origin.server().accept_compressed(CompressionEncoding::Gzip).send_compressed(CompressionEncoding::Gzip);
    let stand = Stand::around(&layer, server).await;

    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = std::env::var_os("PYTHON").unwrap_or_else(|| "python3".into());
    let client = Command::new(python)
        .arg(here.join("tests/grpc/client.py"))
        .arg(stand.address.to_string())
        .arg(here.join("examples/tonic"))
        .output();
    // Its process tells its own time.
    let output = client.await.expect("there is a Python");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("all is as it should be"), "{said}");
}

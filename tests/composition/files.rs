//! Around a directory of files.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{StatusCode, header},
    middleware::{Next, from_fn_with_state},
    response::Response,
};
use cacheback::{CachebackLayer, Detail};
use tower::ServiceBuilder;
use tower_http::services::ServeDir;

use crate::stand::{Seen, ask, minute, tell};

/// A directory with one file.
struct Files(PathBuf);

impl Files {
    fn new(name: &str) -> Self {
        // Each process has its own.
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        fs::create_dir_all(&directory).expect("tests may write there");
        fs::write(directory.join("page.txt"), "what the file says").expect("tests may write there");
        Self(directory)
    }

    fn remove(&self) {
        fs::remove_file(self.0.join("page.txt")).expect("the file is there");
    }

    fn behind(&self, layer: CachebackLayer) -> (Router, Answers) {
        let answers = Answers::default();
        let noted = from_fn_with_state(Arc::clone(&answers), note);
        let files = ServiceBuilder::new().layer(layer).layer(noted).service(ServeDir::new(&self.0));
        (Router::new().fallback_service(files), answers)
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _left_behind = fs::remove_dir_all(&self.0);
    }
}

/// What the directory answered.
type Answers = Arc<Mutex<Vec<StatusCode>>>;

async fn note(State(answers): State<Answers>, request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    answers.lock().unwrap().push(response.status());
    response
}

async fn with(app: &Router, name: header::HeaderName, value: &str) -> Seen {
    tell(app, Request::get("/page.txt").header(name, value).body(Body::empty()).unwrap()).await
}

#[tokio::test] // P90, P46, P47
async fn a_served_file_its_parts_and_its_conditions_are_answered_from_memory() {
    let files = Files::new("answered-from-memory");
    let (app, answers) = files.behind(minute());
    let first = ask(&app, "/page.txt").await;
    files.remove();
    let hit = ask(&app, "/page.txt").await;
    assert_eq!((hit.is_hit(), hit.body.as_str()), (true, "what the file says"));
    let part = with(&app, header::RANGE, "bytes=5-7").await;
    assert_eq!((part.status, part.body.as_str()), (StatusCode::PARTIAL_CONTENT, "the"));
    let known = with(&app, header::IF_MODIFIED_SINCE, first.header(header::LAST_MODIFIED)).await;
    assert_eq!(known.status, StatusCode::NOT_MODIFIED);
    assert_eq!(*answers.lock().unwrap(), [StatusCode::OK]);
}

#[tokio::test] // P90, P46
async fn a_stale_file_that_did_not_change_is_not_read_again() {
    let files = Files::new("not-read-again");
    let layer = minute();
    let cache = layer.cache().clone();
    let (app, answers) = files.behind(layer);
    ask(&app, "/page.txt").await;
    cache.expire_path("/page.txt").await.unwrap();
    assert!(ask(&app, "/page.txt").await.outcome().is_stale());
    cache.settled().await;
    let fresh = ask(&app, "/page.txt").await;
    assert_eq!((fresh.is_hit(), fresh.outcome().is_stale(), fresh.body.as_str()), (true, false, "what the file says"));
    assert_eq!(*answers.lock().unwrap(), [StatusCode::OK, StatusCode::NOT_MODIFIED]);
}

#[tokio::test] // P90, P53
async fn a_file_over_the_cap_passes_and_is_not_stored() {
    let files = Files::new("over-the-cap");
    let (app, answers) = files.behind(minute().body_cap(10));
    for _ in 0..2 {
        let seen = ask(&app, "/page.txt").await;
        assert_eq!((seen.body.as_str(), seen.outcome().detail()), ("what the file says", Some(Detail::TooLarge)));
    }
    assert_eq!(answers.lock().unwrap().len(), 2);
}

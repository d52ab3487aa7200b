//! Functions of the application as middleware (`from_fn`).

use axum::{
    Router,
    extract::{Request, State},
    http::HeaderValue,
    middleware::{Next, from_fn_with_state},
    response::Response,
    routing::get,
};
use tower::ServiceBuilder;

use crate::stand::{Runs, ask, count, minute};

/// Says how often it was called.
async fn stamp(State((name, calls)): State<(&'static str, Runs)>, request: Request, next: Next) -> Response {
    let call = calls.next();
    let mut response = next.run(request).await;
    response.headers_mut().insert(name, HeaderValue::from(call));
    response
}

#[tokio::test] // P90
async fn a_function_outside_is_called_for_each_request_and_one_inside_for_each_run_and_what_that_adds_is_stored() {
    let stamped = |name| from_fn_with_state((name, Runs::default()), stamp);
    let stack = ServiceBuilder::new().layer(stamped("x-outside")).layer(minute()).layer(stamped("x-inside"));
    let app = Router::new().route("/", get(count)).layer(stack).with_state(Runs::default());
    for (outside, inside) in [("1", "1"), ("2", "1"), ("3", "1")] {
        let seen = ask(&app, "/").await;
        assert_eq!((seen.header("x-outside"), seen.header("x-inside")), (outside, inside));
    }
}

#[tokio::test] // P90
async fn of_a_service_builder_the_first_is_outermost_and_of_router_layers_the_last() {
    let stamped = || from_fn_with_state(("x-calls", Runs::default()), stamp);
    let outside = [
        Router::new().route("/", get(count)).layer(ServiceBuilder::new().layer(stamped()).layer(minute())),
        Router::new().route("/", get(count)).layer(minute()).layer(stamped()),
    ];
    let inside = [
        Router::new().route("/", get(count)).layer(ServiceBuilder::new().layer(minute()).layer(stamped())),
        Router::new().route("/", get(count)).layer(stamped()).layer(minute()),
    ];
    for (apps, calls) in [(outside, "2"), (inside, "1")] {
        for app in apps {
            let app = app.with_state(Runs::default());
            ask(&app, "/").await;
            assert_eq!(ask(&app, "/").await.header("x-calls"), calls);
        }
    }
}

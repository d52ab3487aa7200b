//! Fresh, stale, too stale, cold: what becomes of a unary call.

use cacheback::{CacheStatus, CachebackLayer, ForceRefresh, Freshness, Outcome, Plan, Scope, grpc};
use http::{HeaderMap, HeaderValue};
use http_body_util::{BodyExt, Full};
use prost::Message;
use tonic::{Code, Response, Status};
use tower::{Layer, ServiceExt};

use crate::{
    clock::in_time,
    quotes::{Quote, Wanted},
    stand::{GET, Origin, Reply, Stand, a_minute, minute, pass, quiet, secs, wanted},
};

#[tokio::test(start_paused = true)] // P80
async fn a_second_call_with_the_same_message_is_a_hit_and_says_so_in_its_metadata() {
    let origin = Origin::new(|seen| {
        let mut answer = Response::new(crate::stand::quote(seen));
        answer.metadata_mut().insert("x-price-of", "noon".parse().unwrap());
        Ok(answer)
    });
    let stand = Stand::new(&minute(), &origin).await;
    let first = stand.get("ACME").await;
    assert_eq!(first.told(), (1, "fwd=uri-miss; fwd-status=200; stored"));
    pass(7).await;
    let second = stand.get("ACME").await;
    assert_eq!(second.told(), (1, "hit; ttl=53"));
    assert_eq!((first.field("x-price-of"), second.field("x-price-of")), (Some("noon"), Some("noon")));
    assert_eq!((second.field("age"), second.field("grpc-status")), (Some("7"), first.field("grpc-status")));
    assert_eq!(stand.get("OTHER").await.told().0, 2, "another message is another call");
    assert_eq!(origin.runs(), 2);
}

#[tokio::test(start_paused = true)] // P5, P80
async fn a_stale_answer_is_given_at_once_and_refreshed_behind_its_reader() {
    let origin = Origin::counting();
    let stand = Stand::new(&minute(), &origin).await;
    stand.get("ACME").await;
    pass(61).await;
    origin.only_the_first(1);
    let stale = stand.begin(wanted("ACME", &[])).await.unwrap();
    assert_eq!(stale.told(), (1, "hit; ttl=-1"));
    origin.begun(2).await;
    assert!(origin.last().background);
    origin.release();
    in_time(stand.cache.settled()).await;
    assert_eq!(stand.get("ACME").await.told(), (2, "hit; ttl=60"));
}

#[tokio::test(start_paused = true)] // P80
async fn a_refresh_outlives_the_deadline_of_the_call_behind_which_it_runs_and_its_service_sees_none() {
    let origin = Origin::counting();
    let stand = Stand::new(&minute(), &origin).await;
    stand.get("ACME").await;
    pass(61).await;
    origin.only_the_first(1);
    let mut request = wanted("ACME", &[]);
    request.set_timeout(std::time::Duration::from_millis(100));
    assert_eq!(stand.begin(request).await.unwrap().told(), (1, "hit; ttl=-1"));
    origin.begun(2).await;
    pass(5).await;
    quiet().await;
    origin.release();
    in_time(stand.cache.settled()).await;
    assert_eq!(stand.get("ACME").await.told(), (2, "hit; ttl=55"));
    assert!(origin.seen().iter().all(|seen| seen.field("grpc-timeout").is_empty()));
}

#[tokio::test(start_paused = true)] // P80
async fn a_deadline_is_no_part_of_the_key() {
    let stand = Stand::new(&minute(), &Origin::counting()).await;
    for seconds in [1, 2, 3] {
        let mut request = wanted("ACME", &[]);
        request.set_timeout(secs(seconds));
        assert_eq!(stand.begin(request).await.unwrap().quote.cents, 1);
    }
}

#[tokio::test(start_paused = true)] // P10, P80
async fn of_a_hundred_calls_at_one_time_one_runs() {
    let origin = Origin::counting();
    let stand = Stand::new(&minute(), &origin).await;
    origin.only_the_first(0);
    let calls: Vec<_> = (0..100).map(|_| stand.spawn(wanted("ACME", &[]))).collect();
    origin.begun(1).await;
    quiet().await;
    origin.release();
    let mut collapsed = 0;
    for call in calls {
        let reply = in_time(call).await.unwrap().unwrap();
        assert_eq!(reply.quote.cents, 1);
        collapsed += usize::from(reply.said.contains("collapsed"));
    }
    assert_eq!((origin.runs(), collapsed), (1, 99));
}

#[tokio::test(start_paused = true)] // P11, P80
async fn a_client_that_leaves_leaves_nobody_behind() {
    let origin = Origin::counting();
    let stand = Stand::new(&minute(), &origin).await;
    origin.only_the_first(0);
    let leader = stand.spawn(wanted("ACME", &[]));
    origin.begun(1).await;
    let follower = stand.spawn(wanted("ACME", &[]));
    quiet().await;
    leader.abort();
    quiet().await;
    origin.release();
    assert_eq!(in_time(follower).await.unwrap().unwrap().quote.cents, 1);
    assert_eq!(origin.runs(), 1);
}

#[tokio::test(start_paused = true)] // P6, P80
async fn a_deadline_that_passes_while_a_run_is_waited_for_is_that_of_its_client_alone() {
    let origin = Origin::counting();
    let stand = Stand::new(&minute(), &origin).await;
    origin.only_the_first(0);
    let mut hasty = wanted("ACME", &[]);
    hasty.set_timeout(secs(1));
    let hasty = stand.spawn(hasty);
    origin.begun(1).await;
    let patient = stand.spawn(wanted("ACME", &[]));
    quiet().await;
    pass(2).await;
    let late = in_time(hasty).await.unwrap().unwrap_err();
    assert!(matches!(late.code(), Code::Cancelled | Code::DeadlineExceeded), "{late:?}");
    origin.release();
    assert_eq!(in_time(patient).await.unwrap().unwrap().quote.cents, 1);
    assert_eq!(origin.runs(), 1);
}

#[tokio::test(start_paused = true)] // P80, P90
async fn methods_that_are_not_listed_go_past_the_cache_and_say_so() {
    let origin = Origin::counting();
    let layer = CachebackLayer::grpc().method("/quotes.Quotes/Other", a_minute());
    let stand = Stand::new(&layer, &origin).await;
    for run in 1..=2 {
        let reply = stand.ask("ACME", &[("x-mine", "seen")]).await.unwrap();
        assert_eq!(reply.told(), (run, "fwd=bypass; fwd-status=200; detail=excluded"));
    }
    assert_eq!(origin.last().field("x-mine"), "seen");
}

#[tokio::test(start_paused = true)] // P80
async fn a_message_over_the_cap_passes_whole_and_one_at_the_cap_is_looked_up() {
    let origin = Origin::counting();
    let most = Wanted { share: "x".repeat(3_000) }.encoded_len();
    let stand = Stand::new(&minute().message_cap(most), &origin).await;
    let (longest, longer, long) = ("x".repeat(3_000), "x".repeat(3_001), "x".repeat(200_000));
    for share in [&longest, &longest, &longer, &longer, &long, &long] {
        let reply = stand.get(share).await;
        assert_eq!(reply.quote.share, *share);
        assert_eq!(reply.said.contains("detail=too-large"), share.len() > longest.len(), "{}", reply.said);
    }
    assert_eq!(origin.runs(), 5);
}

#[tokio::test(start_paused = true)] // P26, P80
async fn code_in_the_process_forces_a_run_and_no_metadata_does() {
    let origin = Origin::counting();
    let layer = minute();
    let calls = layer.layer(origin.server());
    let call = || grpc::call(GET, Wanted { share: "ACME".into() }.encode_to_vec()).unwrap();
    let outcome = |answer: http::Response<_>| -> Outcome {
        let _: &cacheback::Body<tonic::body::Body> = answer.body();
        *answer.extensions().get().unwrap()
    };
    let mut asks = call();
    asks.headers_mut().insert("cache-control", "no-cache".parse().unwrap());
    outcome(calls.clone().oneshot(call()).await.unwrap());
    assert_eq!(outcome(calls.clone().oneshot(asks).await.unwrap()).status(), CacheStatus::Hit);
    let mut forced = call();
    forced.extensions_mut().insert(ForceRefresh);
    assert_eq!(outcome(calls.clone().oneshot(forced).await.unwrap()).status(), CacheStatus::Request);
    assert_eq!(outcome(calls.refresh(call()).await.unwrap()).status(), CacheStatus::Request);
    assert_eq!(outcome(calls.oneshot(call()).await.unwrap()).status(), CacheStatus::Hit);
    assert_eq!(origin.runs(), 3);
}

#[tokio::test(start_paused = true)] // P33, P35, P80
async fn an_answer_is_put_explained_and_looked_at_by_hand() {
    let (origin, layer) = (Origin::counting(), minute());
    let stand = Stand::new(&layer, &origin).await;
    let uri = format!("http://{}{GET}", stand.address);
    let message = Wanted { share: "ACME".into() }.encode_to_vec();
    let call = || grpc::call(&uri, &message).unwrap();
    let explained = layer.explain(call()).await;
    assert_eq!((explained.outcome().status(), explained.plan()), (CacheStatus::UriMiss, Plan::Lead));
    let put = Quote { share: "ACME".into(), cents: 99, note: "by hand".into() };
    layer.put(call(), grpc::answer(put.encode_to_vec())).await.unwrap();
    assert_eq!(layer.explain(call()).await.to_string(), "hit; ttl=60; plan=nothing");
    let reply = stand.get("ACME").await;
    assert_eq!((&reply.quote, origin.runs()), (&put, 0));
    let peeked = layer.cache().peek(Scope::message(GET, &message).unwrap());
    assert_eq!(peeked[0].value().content()[5..], put.encode_to_vec());
    assert!(layer.cache().peek(Scope::message(GET, b"other").unwrap()).is_empty());
    // What the rules forbid a service they forbid here.
    let mut bad = grpc::answer(b"");
    bad.headers_mut().insert("cache-control", "no-store".parse().unwrap());
    layer.put(call(), bad).await.unwrap_err();
    let failed = tonic::Status::unavailable("down").into_http::<grpc::Whole>();
    layer.put(call(), failed).await.unwrap_err();
    let trailers = HeaderMap::from_iter([("grpc-status".parse().unwrap(), HeaderValue::from_static("14"))]);
    let half_way = Full::new(grpc::frame(b"m")).with_trailers(std::future::ready(Some(Ok(trailers))));
    layer.put(call(), grpc::answer(b"").map(|_| half_way)).await.unwrap_err();
    layer.put(grpc::call("/quotes.Quotes/Put", b"").unwrap(), grpc::answer(b"")).await.unwrap_err();
    assert_eq!(stand.get("ACME").await.quote, put);
}

#[tokio::test(start_paused = true)] // P33, P80
async fn what_is_put_by_hand_is_for_clients_that_read_what_its_call_says() {
    let (origin, layer) = (Origin::counting(), minute());
    let stand = Stand::new(&layer, &origin).await;
    let call = |codings: &[&'static str]| {
        let message = Wanted { share: "ACME".into() }.encode_to_vec();
        let mut call = grpc::call(&format!("http://{}{GET}", stand.address), message).unwrap();
        let codings = codings.iter().map(|coding| ("grpc-accept-encoding".parse().unwrap(), coding.parse().unwrap()));
        call.headers_mut().extend(codings.collect::<http::HeaderMap>());
        call
    };
    let put = Quote { share: "ACME".into(), cents: 99, note: "by hand".into() };
    let python = [("grpc-accept-encoding", "identity, deflate, gzip")];
    layer.put(call(&[]), grpc::answer(put.encode_to_vec())).await.unwrap();
    assert_eq!(stand.get("ACME").await.quote, put);
    assert_eq!(layer.explain(call(&["gzip,deflate"])).await.plan(), Plan::Lead);
    layer.put(call(&["gzip,deflate"]), grpc::answer(put.encode_to_vec())).await.unwrap();
    assert_eq!(stand.ask("ACME", &python).await.unwrap().quote, put);
    assert_eq!(origin.runs(), 0);
}

#[tokio::test(start_paused = true)] // P6, P80
async fn too_stale_is_waited_for_and_a_failure_is_answered_by_what_is_stored() {
    let freshness = Freshness::exact(secs(60)).stale_if_error(secs(600));
    let origin = Origin::new(|seen| match seen.run {
        2 => Err(Status::unavailable("down")),
        _ => Ok(Response::new(crate::stand::quote(seen))),
    });
    let stand = Stand::new(&CachebackLayer::grpc().method(GET, freshness), &origin).await;
    stand.get("ACME").await;
    pass(61).await;
    let reply = stand.get("ACME").await;
    assert_eq!(reply.told(), (1, "fwd=stale; fwd-status=200; ttl=-1; detail=stale-if-error"));
    // Back-off: answered at once, without a run.
    assert_eq!(stand.get("ACME").await.quote.cents, 1);
    assert_eq!(origin.runs(), 2);
    pass(60).await;
    assert_eq!(stand.get("ACME").await.told(), (3, "fwd=stale; fwd-status=200; stored"));
}

#[tokio::test(start_paused = true)] // P94
async fn a_layer_that_is_off_does_nothing() {
    let origin = Origin::counting();
    let stand = Stand::new(&minute().enabled(false), &origin).await;
    let replies: Vec<Reply> = [stand.get("ACME").await, stand.get("ACME").await].into();
    assert_eq!((replies[0].told(), replies[1].told()), ((1, ""), (2, "")));
}

#[test] // P92
fn what_is_no_method_is_refused_where_it_is_written() {
    let panicked = std::panic::catch_unwind(|| CachebackLayer::grpc().method("quotes.Quotes/Get", secs(1)));
    let message = *panicked.unwrap_err().downcast::<String>().unwrap();
    assert!(message.contains("/package.Service/Method"), "{message}");
    assert!(std::panic::catch_unwind(|| CachebackLayer::grpc().key_metadata("x y")).is_err());
}

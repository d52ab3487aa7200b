//! Frames of every cut and bytes of every kind, as they come from clients that speak gRPC badly or not at all.

use std::{convert::Infallible, sync::Arc, sync::Mutex};

use bytes::Bytes;
use cacheback::{CacheStatus, Detail, Outcome, grpc};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::BodyExt;
use proptest::prelude::*;
use tower::{Layer, ServiceExt, service_fn};

use crate::{
    stand::{GET, minute},
    support::net::{Broken, Scripted, infallible, scripted},
};

/// What the service was called with: its content and trailers, or that it broke.
type Heard = Arc<Mutex<Vec<Result<(Bytes, Option<HeaderMap>), Broken>>>>;

/// Sends a body of these frames to a layer, and hears what its service gets of it.
async fn send(frames: &[&[u8]], end: impl FnOnce(&mut crate::support::net::Script), heard: &Heard) -> Outcome {
    let layer = minute().message_cap(64);
    let service = layer.layer(service_fn({
        let heard = Arc::clone(heard);
        move |request: Request<grpc::RequestBody<Scripted>>| {
            let heard = Arc::clone(&heard);
            async move {
                let read = request.into_body().collect().await;
                let read = read.map(|read| (read.trailers().cloned(), read.to_bytes()));
                heard.lock().unwrap().push(read.map(|(trailers, content)| (content, trailers)));
                Ok::<_, Infallible>(grpc::answer(b"fine"))
            }
        }
    }));
    let (mut script, body) = scripted();
    for frame in frames {
        script.data(Bytes::copy_from_slice(frame));
    }
    end(&mut script);
    let call = grpc::call(GET, b"").unwrap().map(|_| body);
    let answer: Response<_> = infallible(service.oneshot(call).await);
    let outcome = *answer.extensions().get().unwrap();
    answer.into_body().collect().await.unwrap();
    outcome
}

#[tokio::test(start_paused = true)] // P80
async fn a_message_in_frames_of_any_cut_is_one_call() {
    let message = grpc::frame(b"a message");
    for cut in 0..=message.len() {
        let heard = Heard::default();
        let (head, tail) = message.split_at(cut);
        let outcome = send(&[head, &[], tail, &[]], |script| script.end(), &heard).await;
        assert_eq!(outcome.status(), CacheStatus::UriMiss, "{cut}");
        assert_eq!(*heard.lock().unwrap(), [Ok((message.clone(), None))]);
    }
    let bytes: Vec<_> = message.chunks(1).collect();
    let heard = Heard::default();
    assert_eq!(send(&bytes, |script| script.end(), &heard).await.status(), CacheStatus::UriMiss);
    assert_eq!(*heard.lock().unwrap(), [Ok((message, None))]);
}

#[tokio::test(start_paused = true)] // P80
async fn two_messages_in_one_frame_or_cut_anywhere_pass_as_they_came() {
    let both = [grpc::frame(b"one"), grpc::frame(b"two")].concat();
    for cut in 0..=both.len() {
        let (heard, (head, tail)) = (Heard::default(), both.split_at(cut));
        let outcome = send(&[head, tail], |script| script.end(), &heard).await;
        assert_eq!((outcome.status(), outcome.detail()), (CacheStatus::Bypass, Some(Detail::Streaming)), "{cut}");
        assert_eq!(*heard.lock().unwrap(), [Ok((both.clone().into(), None))]);
    }
}

#[tokio::test(start_paused = true)] // P80
async fn what_ends_otherwise_than_a_message_does_passes_as_it_came() {
    let trailers = HeaderMap::from_iter([("x-odd".parse().unwrap(), HeaderValue::from_static("1"))]);
    let message = grpc::frame(b"one");
    for (content, detail) in [
        (&message[..], Some(Detail::Streaming)),
        (&message[..6], Some(Detail::Streaming)),
        (&[], Some(Detail::Streaming)),
    ] {
        let heard = Heard::default();
        let outcome = send(&[content], |script| _ = script.trailers(trailers.clone()), &heard).await;
        assert_eq!((outcome.status(), outcome.detail()), (CacheStatus::Bypass, detail));
        assert_eq!(*heard.lock().unwrap(), [Ok((Bytes::copy_from_slice(content), Some(trailers.clone())))]);
    }
    for content in [&message[..], &message[..6], &[]] {
        let heard = Heard::default();
        let outcome = send(&[content], |script| _ = script.fail(), &heard).await;
        assert_eq!(outcome.detail(), Some(Detail::BodyFailed));
        assert_eq!(*heard.lock().unwrap(), [Err(Broken)]);
    }
    for content in [&[][..], &[0], &[0, 0, 0, 0], &message[..6]] {
        let heard = Heard::default();
        let outcome = send(&[content], |script| script.end(), &heard).await;
        assert_eq!(outcome.detail(), Some(Detail::BodyFailed));
        assert_eq!(*heard.lock().unwrap(), [Ok((Bytes::copy_from_slice(content), None))]);
    }
    // Neither compressed nor not, and compressed in nobody knows which coding.
    for odd in [[2, 0, 0, 0, 0], [255, 0, 0, 0, 0], [1, 0, 0, 0, 0]] {
        let heard = Heard::default();
        let outcome = send(&[&odd], |script| script.end(), &heard).await;
        assert_eq!(outcome.detail(), Some(Detail::Excluded));
        assert_eq!(*heard.lock().unwrap(), [Ok((Bytes::copy_from_slice(&odd), None))]);
    }
}

#[tokio::test(start_paused = true)] // P64, P80
async fn of_a_message_that_claims_to_be_large_nothing_is_waited_for() {
    // The client says no more, and the clock stands still.
    for claimed in [65_u32, 1 << 20, u32::MAX] {
        let layer = minute().message_cap(64);
        let service = layer.layer(service_fn(|_: Request<grpc::RequestBody<Scripted>>| async {
            Ok::<_, Infallible>(grpc::answer(b"fine"))
        }));
        let (script, body) = scripted();
        script.data([&[0][..], &claimed.to_be_bytes()].concat());
        let call = grpc::call(GET, b"").unwrap().map(|_| body);
        let mut answer = at_once(service.oneshot(call));
        let outcome = *answer.extensions_mut().get_mut::<Outcome>().unwrap();
        assert_eq!(outcome.detail(), Some(Detail::TooLarge), "{claimed}");
    }
}

/// What a future gives at once.
fn at_once<T>(future: impl Future<Output = Result<T, Infallible>>) -> T {
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::pin!(future).poll(&mut cx) {
        std::task::Poll::Ready(answer) => infallible(answer),
        std::task::Poll::Pending => panic!("something is waited for"),
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    #[test] // P64, P80
    fn whatever_bytes_come_in_whatever_frames_the_service_gets_them_all(
        mut frames: Vec<Vec<u8>>,
        prefix in prop::option::of(0_usize..80),
        fails: bool,
    ) {
        if let Some(length) = prefix {
            // Now and then a message that could be one.
            let content = grpc::frame(frames.concat());
            frames = vec![content[..content.len().min(length)].to_vec(), content[content.len().min(length)..].to_vec()];
        }
        let all = frames.concat();
        let frames: Vec<_> = frames.iter().map(Vec::as_slice).collect();
        let heard = Heard::default();
        let end = |script: &mut crate::support::net::Script| if fails { script.fail(); } else { script.end() };
        let outcome = runtime().block_on(send(&frames, end, &heard));
        let heard = heard.lock().unwrap();
        prop_assert_eq!(heard.len(), 1);
        match &heard[0] {
            Ok((content, None)) => prop_assert_eq!(&content[..], &all[..]),
            other => prop_assert!(fails && other.is_err()),
        }
        let is_message = all.len() >= 5 && all[0] == 0 && all.len() <= 69
            && all[1..5] == u32::try_from(all.len() - 5).unwrap().to_be_bytes();
        prop_assert_eq!(outcome.status() == CacheStatus::UriMiss, is_message && !fails, "{}", outcome);
    }

    #[test] // P64, P80
    fn whatever_bytes_are_answered_the_client_gets_them_all(frames: Vec<Vec<u8>>, status in prop::option::of(0_u8..20)) {
        let layer = minute().body_cap(64);
        let all = Bytes::from(frames.concat());
        let service = layer.layer(service_fn(move |_: Request<grpc::RequestBody<grpc::Whole>>| {
            let (mut script, body) = scripted();
            for frame in &frames {
                script.data(frame.clone());
            }
            if let Some(status) = status {
                let trailers = HeaderMap::from_iter([("grpc-status".parse().unwrap(), HeaderValue::from(u16::from(status)))]);
                script.trailers(trailers);
            }
            script.end();
            let mut answer = Response::new(body);
            answer.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
            std::future::ready(Ok::<_, Infallible>(answer))
        }));
        runtime().block_on(async {
            for _ in 0..2 {
                let answer = infallible(service.clone().oneshot(grpc::call(GET, b"").unwrap()).await);
                let read = answer.into_body().collect().await.unwrap();
                prop_assert_eq!(read.trailers().is_some(), status.is_some());
                prop_assert_eq!(read.to_bytes(), &all);
            }
            let one_message = all.len() >= 5 && all[1..5] == u32::try_from(all.len() - 5).unwrap().to_be_bytes();
            let stored = one_message && all.len() <= 64 && status == Some(0);
            prop_assert_eq!(layer.cache().stats().stored == 1, stored);
            Ok(())
        })?;
    }
}

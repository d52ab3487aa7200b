//! Targets for a fuzzer: frames of any cut are read as the one message that they are, or pass as they came. See
//! `http/fuzz.rs` for how they are run.

use std::{
    collections::VecDeque,
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
};

use bolero::check;
use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame};

use crate::{
    grpc::{
        message::PREFIX,
        request::{Reading, RequestBody},
    },
    status::Detail,
};

/// The largest message that is read.
const CAP: usize = 32;

/// What a client does next.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Data(Vec<u8>),
    Trailers,
    Fail,
}

#[derive(Clone, Debug)]
struct Steps(VecDeque<Step>);

/// Steps from bytes: each says what is next, and of how many of the bytes that follow.
fn steps(mut input: &[u8]) -> Steps {
    let mut steps = VecDeque::new();
    while let Some((kind, rest)) = input.split_first() {
        let length = usize::from(kind & 31).min(rest.len());
        let (data, rest) = rest.split_at(length);
        input = rest;
        steps.push_back(match kind >> 5 {
            0 if length == 0 => Step::Trailers,
            1 if length == 0 => Step::Fail,
            // The beginning of what could be a message, now and then.
            2 | 3 => Step::Data([&[kind >> 5 & 1, 0, 0, 0, length as u8], data].concat()),
            _ => Step::Data(data.to_vec()),
        });
    }
    Steps(steps)
}

impl Body for Steps {
    type Data = Bytes;
    type Error = ();

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ()>>> {
        Poll::Ready(self.0.pop_front().map(|step| match step {
            Step::Data(data) => Ok(Frame::data(data.into())),
            Step::Trailers => Ok(Frame::trailers(HeaderMap::new())),
            Step::Fail => Err(()),
        }))
    }
}

/// All that comes of a body, as far as it comes: one piece of data before and after each other thing.
fn all(body: impl Body<Data = Bytes, Error = ()>) -> Vec<Step> {
    let (mut body, mut all) = (pin!(body), Vec::new());
    while let Poll::Ready(Some(next)) = body.as_mut().poll_frame(&mut Context::from_waker(Waker::noop())) {
        match (next.map(Frame::into_data), all.last_mut()) {
            (Ok(Ok(data)), Some(Step::Data(before))) => before.extend_from_slice(&data),
            (Ok(Ok(data)), _) if data.is_empty() => {}
            (Ok(Ok(data)), _) => all.push(Step::Data(data.to_vec())),
            (Ok(Err(_)), _) => all.push(Step::Trailers),
            (Err(()), _) => {
                all.push(Step::Fail);
                break;
            }
        }
    }
    // Whatever a body says after its trailers, nobody reads it.
    let ended = all.iter().position(|step| *step == Step::Trailers);
    all.truncate(ended.map_or(all.len(), |at| at + 1));
    all
}

#[test] // P64, P80
fn a_message_is_read_once_and_whole_and_all_else_passes_as_it_came() {
    check!().for_each(|input: &[u8]| {
        let came = steps(input);
        let mut reading = Reading::of(came.clone(), CAP);
        let Poll::Ready(read) = reading.poll_all(&mut Context::from_waker(Waker::noop())) else {
            panic!("a body that is always ready is read at once");
        };
        let body: RequestBody<Steps> = reading.into_body();
        let (message, compressed) = (body.message().to_vec(), body.is_compressed());
        let came = all(came);
        assert_eq!(all(body), came, "{read:?}");
        match (read, &came[..]) {
            (Ok(()), [Step::Data(data)]) => {
                assert_eq!(data[PREFIX..], message);
                assert_eq!(data[1..PREFIX], u32::try_from(message.len()).unwrap().to_be_bytes());
                assert_eq!(compressed, [Some(false), Some(true)].get(usize::from(data[0])).copied().flatten());
                assert!(message.len() <= CAP);
            }
            (Ok(()), _) => panic!("that is no message: {came:?}"),
            (Err(Detail::TooLarge), [Step::Data(data), ..]) => assert!(data[1..PREFIX] > [0, 0, 0, CAP as u8][..]),
            (Err(detail), came) => {
                assert!(!matches!(came, [Step::Data(data)] if is_message(data)), "{detail:?} {came:?}")
            }
        }
    });
}

fn is_message(data: &[u8]) -> bool {
    data.len() >= PREFIX && data[1..PREFIX] == ((data.len() - PREFIX) as u32).to_be_bytes()
}

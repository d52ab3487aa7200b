//! A miss, over and over: each request asks for what nobody has asked for.

use std::{hint::black_box, pin::pin};

use axum::body::Body;
use http::{Request, Response, Uri};

use crate::{
    cases::{self, KIB},
    contenders::{self, Answers, BARE, Life, Visitor},
    origin::{Manner, Origin},
};

/// Misses so many times.
pub type Misses = Box<dyn FnMut(usize)>;

/// Makes and drops the requests, and lets other tasks run in between as the others do.
#[must_use]
pub fn harness() -> Misses {
    let (runtime, mut asked) = (crate::runtime(), 0);
    Box::new(move |calls| {
        runtime.block_on(async {
            for _ in 0..calls {
                drop(black_box(another(&mut asked)));
                tokio::task::yield_now().await;
            }
        });
    })
}

/// The contender around the handler in its router. What a cache does behind the response is part of the miss: it is let
/// finish before the next.
#[must_use]
pub fn of(name: &str) -> Misses {
    let origin = Origin::new(KIB, Manner::AtOnce);
    contenders::meet(name, origin.handler(), Life::Fresh, Ask { origin: origin.clone(), stores: name != BARE })
}

struct Ask {
    origin: Origin,
    stores: bool,
}

impl Visitor for Ask {
    type Output = Misses;

    fn visit<S: Answers>(self, mut service: S) -> Misses {
        let (runtime, mut asked, mut first) = (crate::runtime(), 0, true);
        Box::new(move |calls| {
            runtime.block_on(async {
                for _ in 0..calls {
                    let Ok(response) = service.call(another(&mut asked)).await else { panic!("nothing fails") };
                    read(response).await;
                    tokio::task::yield_now().await;
                }
            });
            assert_eq!(self.origin.runs(), asked, "each was a miss");
            if first && self.stores {
                let Ok(again) = runtime.block_on(service.call(of_page(asked))) else { panic!("nothing fails") };
                runtime.block_on(read(again));
                assert_eq!(self.origin.runs(), asked, "and was stored");
                first = false;
            }
        })
    }
}

/// A request that differs from all before it.
fn another(asked: &mut usize) -> Request<Body> {
    *asked += 1;
    of_page(*asked)
}

fn of_page(number: usize) -> Request<Body> {
    let mut request = cases::request::<Body>();
    *request.uri_mut() = Uri::try_from(format!("/quotes/{number}")).expect("a URI");
    request
}

/// Reads a response to its end, whenever that comes.
pub async fn read<B: http_body::Body>(response: Response<B>) {
    let mut body = pin!(response.into_body());
    while let Some(frame) = std::future::poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
        black_box(frame.is_ok());
    }
}

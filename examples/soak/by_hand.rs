//! What clients do to the caches by hand: writes, purges, expiries, responses that are put, looks at what is stored.

use std::sync::Arc;

use cacheback::{Scope, StoredResponse};
use http::Request;
use http_body_util::Empty;
use tower::Service;

use crate::{
    checks::{self, Asked},
    clients::{Client, Sent},
    figures::Count,
    origin::{Ask, STAMP},
    pages::{Page, Reach, Route, TAGS, VARIANTS},
    stamp::Stamp,
};

impl Client {
    /// A write: its method purges the page at all layers.
    pub(crate) async fn post(&mut self, route: Route, page: Page) {
        let request = Request::post(page.uri()).header("host", "soak.example").body(Empty::new()).expect("a request");
        let mut service = self.world.service(route).clone();
        let post = async {
            let Ok(response) = service.call(request).await else { return false };
            self.count(*response.extensions().get().expect("every answer has an outcome"));
            self.world.figures.count(Count::Posts);
            true
        };
        self.world.truth.purging(Reach::Uri(page), post).await;
    }

    pub(crate) async fn purge(&mut self, route: Route, page: Page) {
        let (reach, world) = (self.reach(route, page), &self.world);
        let scope = reach.scope().expect("a scope");
        world.figures.count(Count::Purges);
        let purge = async {
            match route {
                Route::Typed => world.typed_layer.cache().purge(scope).await.is_ok(),
                _ => world.cache.purge(scope).await.is_ok(),
            }
        };
        world.truth.purging(reach, purge).await;
    }

    pub(crate) async fn expire(&mut self, route: Route, page: Page) {
        let (reach, world) = (self.reach(route, page), &self.world);
        let scope = reach.scope().expect("a scope");
        world.figures.count(Count::Expiries);
        let expire = async {
            match route {
                Route::Typed => world.typed_layer.cache().expire(scope).await.is_ok(),
                _ => world.cache.expire(scope).await.is_ok(),
            }
        };
        world.truth.expiring(reach, expire).await;
    }

    fn reach(&mut self, route: Route, page: Page) -> Reach {
        match (self.rng.u8(..40), route) {
            (0..2, Route::Typed) => Reach::AllKeys,
            (_, Route::Typed) => Reach::Key(page),
            (0, _) => Reach::AllPages,
            (1, _) => Reach::Namespace(route),
            (2..5, _) => Reach::Group(page.group()),
            (5..13, _) => Reach::Tag(self.rng.usize(..TAGS)),
            (13..24, _) => Reach::Path(page),
            _ => Reach::Uri(page),
        }
    }

    /// Stores what is true now.
    pub(crate) async fn put(&mut self, route: Route, page: Page) {
        let language = self.rng.usize(..VARIANTS);
        let (asked, world) = (self.asked(route, page, language, Sent::Get), Arc::clone(&self.world));
        let put = async |version, number| {
            let stamp = world.origins.stamp_by_hand(&asked, version, number);
            let put = match route {
                Route::Typed => world.typed_layer.put(Ask { page, done: 0 }, stamp.body(300)).await,
                _ => {
                    let response = world.origins.response_by_hand(&stamp);
                    world.layer(route).put(self.request(&asked, language), response).await
                }
            };
            world.figures.count(if put.is_ok() { Count::Puts } else { Count::PutsRefused });
            put.is_ok()
        };
        world.truth.putting(route, page, asked.variant, put).await;
    }

    /// Looks at all that is stored of a page, and asks what would become of a request for it.
    pub(crate) async fn peek(&mut self, route: Route, page: Page) {
        let asked = self.asked(route, page, 0, Sent::Get);
        if route == Route::Typed {
            for peeked in self.world.typed_layer.cache().peek(page.key()) {
                self.judge_peeked(asked, Stamp::of_body(peeked.value()), peeked.is_expired());
            }
            return;
        }
        let _explained = self.world.layer(route).explain(self.request(&asked, 0)).await;
        for peeked in self.world.cache.peek(Scope::uri(&page.uri()).expect("a scope")) {
            self.judge_peeked(asked, stamp_of(peeked.value()), peeked.is_expired());
        }
    }

    fn judge_peeked(&self, mut asked: Asked, stamp: Option<Stamp>, is_expired: bool) {
        self.world.figures.count(Count::Peeks);
        let Some(stamp) = stamp else { return self.world.figures.violation("what is stored has no stamp") };
        // A page is stored at several layers, and in several languages: what was put counts for one of them.
        if stamp.route == asked.route {
            if stamp.variant != asked.variant {
                (asked.variant, asked.floor.put) = (stamp.variant, 0);
            }
            self.judge(checks::peeked(&asked, &stamp, is_expired, &self.world.truth));
        }
    }
}

fn stamp_of(stored: &StoredResponse) -> Option<Stamp> {
    let (_, stamp) = stored.fields().find(|(name, _)| *name == STAMP)?;
    Stamp::read(stamp.to_str().ok()?)
}

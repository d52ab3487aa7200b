//! Run with `cargo run --example invalidate`, then try the `curl` lines that it prints.
//!
//! A small shop, whose pages are fresh for an hour. Whoever changes or removes an item invalidates what shows it: its own
//! page by path and the pages of its category by tag, so that the next reader waits for a new one; the list of all items
//! softly, since there an old price does no harm: the next reader gets the old list at once, the one after that the new
//! one. All other pages stay as they are.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::Duration,
};

use axum::{
    Router,
    extract::{FromRef, Path, State},
    http::StatusCode,
    response::IntoResponse,
    routing::{get, post},
};
use cacheback::{Cache, Error, Tags};

/// What the shop sells, by number.
#[derive(Clone)]
struct Catalogue(Arc<RwLock<BTreeMap<u32, Item>>>);

#[derive(Clone)]
struct Item {
    name: &'static str,
    category: &'static str,
    price: u32,
}

/// What handlers may ask for: `State<Catalogue>` and `State<Cache>`.
#[derive(Clone)]
struct Shop {
    catalogue: Catalogue,
    cache: Cache,
}

/// The shop, with what its pages are cached in.
pub(crate) fn app(cache: Cache) -> Router {
    let hour = Duration::from_secs(3_600);
    // The layer is around the pages alone. Around the methods that change an item it would purge the item's own page by
    // itself, and that one only: it cannot know what else shows the item.
    Router::new()
        .route("/items", get(list))
        .route("/items/{id}", get(item))
        .route("/categories/{name}", get(category))
        .route_layer(cache.layer(hour))
        .route("/items/{id}", post(change).delete(remove))
        .with_state(Shop { catalogue: Catalogue::stocked(), cache })
}

// ---- what is read ----

async fn list(State(catalogue): State<Catalogue>) -> String {
    println!("making the list of all items");
    catalogue.read().iter().map(line).collect()
}

async fn item(State(catalogue): State<Catalogue>, Path(id): Path<u32>) -> Result<String, StatusCode> {
    println!("making the page of item {id}");
    let items = catalogue.read();
    items.get(&id).map(|item| line((&id, item))).ok_or(StatusCode::NOT_FOUND)
}

/// A page that shows several items, tagged with each of them.
async fn category(State(catalogue): State<Catalogue>, Path(name): Path<String>) -> impl IntoResponse {
    println!("making the page of {name}");
    let items = catalogue.read();
    let shown = || items.iter().filter(|(_, item)| item.category == name);
    (Tags::new(shown().map(|(id, _)| tag(*id))), shown().map(line).collect::<String>())
}

// ---- what changes it ----

/// Gives an item the price that the body says, in cents.
async fn change(
    State(catalogue): State<Catalogue>,
    State(cache): State<Cache>,
    Path(id): Path<u32>,
    price: String,
) -> Result<String, StatusCode> {
    let price = price.trim().parse().map_err(|_| StatusCode::BAD_REQUEST)?;
    catalogue.write().get_mut(&id).ok_or(StatusCode::NOT_FOUND)?.price = price;
    changed(&cache, id).await.map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    Ok(format!("item {id} costs {price} from now on\n"))
}

async fn remove(
    State(catalogue): State<Catalogue>,
    State(cache): State<Cache>,
    Path(id): Path<u32>,
) -> Result<String, StatusCode> {
    catalogue.write().remove(&id).ok_or(StatusCode::NOT_FOUND)?;
    changed(&cache, id).await.map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    Ok(format!("item {id} is gone\n"))
}

/// Called after the change, never before it: a page that is made in between shows the new state, and one whose making
/// began earlier is not stored.
async fn changed(cache: &Cache, id: u32) -> Result<(), Error> {
    cache.purge_path(&format!("/items/{id}")).await?;
    cache.purge_tag(&tag(id)).await?;
    cache.expire_path("/items").await?;
    Ok(())
}

fn tag(id: u32) -> String {
    format!("item-{id}")
}

fn line((id, item): (&u32, &Item)) -> String {
    format!("{id}  {:<10} {:>5}  {}\n", item.name, item.price, item.category)
}

impl Catalogue {
    fn stocked() -> Self {
        let item = |name, category, price| Item { name, category, price };
        let items = [item("assam", "tea", 420), item("sencha", "tea", 560), item("mocha", "coffee", 780)];
        Self(Arc::new(RwLock::new((1..).zip(items).collect())))
    }

    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<u32, Item>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, BTreeMap<u32, Item>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl FromRef<Shop> for Catalogue {
    fn from_ref(shop: &Shop) -> Self {
        shop.catalogue.clone()
    }
}

impl FromRef<Shop> for Cache {
    fn from_ref(shop: &Shop) -> Self {
        shop.cache.clone()
    }
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let listener = match tokio::net::TcpListener::bind("127.0.0.1:3000").await {
        Ok(listener) => listener,
        // The port is taken: any other will do.
        Err(_) => tokio::net::TcpListener::bind("127.0.0.1:0").await?,
    };
    let address = listener.local_addr()?;
    println!("Listening on http://{address}. Try, one after the other:\n");
    println!("    curl http://{address}/items                   # made, and stored");
    println!("    curl http://{address}/categories/tea          # the same; shows items 1 and 2");
    println!("    curl http://{address}/categories/coffee       # the same");
    println!("    curl -X POST -d 450 http://{address}/items/1  # item 1 gets another price");
    println!("    curl http://{address}/categories/tea          # made anew, with the new price");
    println!("    curl http://{address}/categories/coffee       # as it was stored: nothing is made");
    println!("    curl http://{address}/items                   # the old price, at once; made anew behind you");
    println!("    curl http://{address}/items                   # the new price");
    println!("    curl -X DELETE http://{address}/items/2       # item 2 is gone, and so it is from its category\n");
    axum::serve(listener, app(Cache::new())).await
}

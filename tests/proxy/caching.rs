//! What is stored, how long it is given out, and what is asked anew.

use crate::{origin::Reply, stand::Stand};

#[tokio::test(start_paused = true)] // P1, P45
async fn rfc9111_4_what_is_fresh_is_given_out_with_its_age_and_the_origin_is_not_asked() {
    let stand = Stand::new(|asked| Reply::ok("Cache-Control: max-age=60", &asked.number.to_string())).await;
    let first = stand.get("/", "").await;
    assert_eq!((first.status(), first.text(), first.has("age")), (200, "1", false), "{first:?}");
    assert_eq!(first.said(), "fwd=uri-miss; fwd-status=200; stored");
    stand.pass(59).await;
    let second = stand.get("/", "").await;
    assert_eq!((second.text(), second.field("age").as_str(), second.said().as_str()), ("1", "59", "hit; ttl=1"));
    assert_eq!(second.field("date"), first.field("date"));
    stand.pass(1).await;
    assert_eq!(stand.get("/", "").await.text(), "2");
    assert_eq!(stand.origin.runs(), 2);
}

//! A cache without memory asks Redis at every read, and so needs no messages.

use crate::{
    instance::{Instance, runs},
    invalidation::{KINDS, invalidate, pages},
    servers::{Proxy, Server, until},
};

#[tokio::test] // P72
async fn what_one_instance_purges_the_next_read_of_another_without_memory_does_not_get() {
    let server = Server::start().await;
    let proxy = Proxy::to(server.address()).await;
    let (one, two) = (Instance::at(&server, "one").await, Instance::strict(&proxy, "two").await);
    proxy.lose_messages(true);
    for (uri, kind) in pages().zip(KINDS) {
        let old = one.get(&uri).await;
        assert_eq!((two.get(&uri).await, two.get(&uri).await), (old.clone(), old), "{kind}");
        invalidate(&one, kind, &uri, true).await;
        let new = two.get(&uri).await;
        assert!(new.starts_with("two "), "{kind}: {new}");
    }
}

#[tokio::test] // P31, P71
async fn what_is_purged_between_any_two_commands_of_a_read_the_next_read_does_not_get() {
    let server = Server::start().await;
    let proxy = Proxy::to(server.address()).await;
    let (one, two) = (Instance::at(&server, "one").await, Instance::strict(&proxy, "two").await);
    let mut pages = pages().enumerate();
    // Tokens are compared; or need not be, as they were just now.
    for reads in [0, 1] {
        let mut commands = 0;
        loop {
            let (number, uri) = pages.next().unwrap();
            let old = one.get(&uri).await;
            for _ in 0..reads {
                assert_eq!(two.get(&uri).await, old);
            }
            let (token, another) = (uri.replace("http:", "cacheback:t:uri:"), format!("epoch {number:02}"));
            // Whoever reads anything in between makes another epoch.
            proxy.say_ahead_of(commands, &[&["DEL", &token, "cacheback:e"], &["SET", "cacheback:e", &another]]);
            two.get(&uri).await;
            if proxy.is_still_to_say() {
                break;
            }
            assert_ne!(two.get(&uri).await, old, "after {reads} reads, ahead of command {commands}");
            commands += 1;
        }
        assert!(reads + commands >= 3, "after {reads} reads one more is {commands} commands");
    }
}

#[tokio::test] // P70, P74
async fn without_memory_and_without_redis_the_service_is_called_until_there_is_one() {
    let server = Server::start().await;
    let proxy = Proxy::to(server.address()).await;
    let all = [Instance::strict(&proxy, "one").await, Instance::strict(&proxy, "two").await];
    let uri = "http://a/page";
    assert_eq!((all[0].get(uri).await, all[1].get(uri).await), ("one 1".to_owned(), "one 1".to_owned()));
    proxy.refuse(true);
    proxy.cut();
    for instance in &all {
        until("it is cut off", async || instance.cache.stats().store_is_down).await;
        let before = instance.origin.runs();
        let answers = [instance.get(uri).await, instance.get(uri).await];
        assert_eq!(instance.origin.runs(), before + 2, "{answers:?}");
    }
    proxy.refuse(false);
    for instance in &all {
        until("it is back", async || !instance.cache.stats().store_is_down).await;
    }
    let before = runs(&all);
    assert_eq!(all[0].get(uri).await, all[1].get(uri).await);
    assert_eq!(runs(&all), before);
}

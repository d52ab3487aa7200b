//! Where the masters are: said by others, who may be wrong, or say that they are elsewhere by now.

use std::sync::{
    OnceLock,
    atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
};

use super::{
    scripted::{Scripted, bulk},
    *,
};
use crate::store::redis::{cluster::slot, masters::together};

/// The half of the slots that each of two has.
fn halves(first: u16, second: u16) -> String {
    let half = |from, to, port| format!("*3\r\n:{from}\r\n:{to}\r\n*3\r\n{}:{port}\r\n+id\r\n", bulk("127.0.0.1"));
    format!("*2\r\n{}{}", half(0, 8_191, first), half(8_192, 16_383, second))
}

/// Keys that are in the lower half.
fn low_keys() -> impl Iterator<Item = String> {
    (0..).map(|number| format!("key{number}")).filter(|key| slot(key.as_bytes()) < 8_192)
}

fn cluster(nodes: &[&Scripted]) -> (Servers, Arc<Notes>) {
    let urls = nodes.iter().map(|node| node.url()).collect::<Vec<_>>();
    let place = Place::cluster(urls.iter().map(String::as_str)).unwrap();
    servers(Config { patience: LONG, ..Config::new(place, "news") })
}

#[tokio::test]
async fn whoever_has_moved_is_followed() {
    static ECHO: Script = Script::new("return ARGV[1]");
    let ports = Arc::<OnceLock<[u16; 2]>>::default();
    let known = Arc::clone(&ports);
    let slots = move || halves(known.get().unwrap()[0], known.get().unwrap()[1]);
    let (to, slots_too) = (Arc::clone(&ports), slots.clone());
    let first = Scripted::start(move |words| {
        let there = to.get().unwrap()[1];
        match words.split(' ').collect::<Vec<_>>()[..] {
            ["CLUSTER", ..] => Some(slots()),
            ["GET", "moved"] => Some(format!("-MOVED 0 127.0.0.1:{there}\r\n")),
            ["GET", "moving"] | ["EVAL", ..] => Some(format!("-ASK 0 127.0.0.1:{there}\r\n")),
            _ => None,
        }
    });
    let second = Scripted::start(move |words| match words.split(' ').next() {
        Some("CLUSTER") => Some(slots_too()),
        Some("GET" | "EVAL") => Some(bulk("second")),
        Some("EVALSHA") => Some("-NOSCRIPT unknown\r\n".into()),
        _ => None,
    });
    ports.set([first.port, second.port]).unwrap();
    let (servers, _notes) = cluster(&[&first]);
    let key = low_keys().next().unwrap();
    let there = |words| Addressed { key: key.clone().into(), ..plain(words) };
    let here = there("GET here");
    let commands = vec![there("GET moved"), here, there("GET moving"), script(&ECHO, &key, "x"), plain("SET foo bar")];
    let answers = servers.ask(commands).await.unwrap();
    let eras = answers.iter().map(|answer| answer.as_ref().unwrap().era).collect::<Vec<_>>();
    // `foo` is the second one's from the beginning.
    let second_is = [true, false, true, true, true];
    assert_eq!(eras.iter().map(|era| *era == eras[4]).collect::<Vec<_>>(), second_is);
    let expected = [text("second"), Value::Okay, text("second"), text("second"), Value::Okay];
    assert_eq!(values(answers), expected.map(Some));
    let asked = second.asked().join("; ");
    let script = format!("EVAL return ARGV[1] 1 {key} x");
    assert_eq!(asked, format!("SET foo bar; GET moved; ASKING; GET moving; ASKING; {script}"));
    assert!(!servers.standing().is_down());
}

#[tokio::test]
async fn what_is_sent_once_more_is_sent_in_its_order() {
    static ECHO: Script = Script::new("return ARGV[1]");
    let ports = Arc::<OnceLock<[u16; 2]>>::default();
    let (known, to) = (Arc::clone(&ports), Arc::clone(&ports));
    let first = Scripted::start(move |words| match words.split(' ').next() {
        Some("CLUSTER") => Some(halves(known.get().unwrap()[0], known.get().unwrap()[1])),
        Some("EVALSHA") => Some("-NOSCRIPT unknown\r\n".into()),
        _ => None,
    });
    let second = Scripted::start(move |words| {
        words.starts_with("GET").then(|| format!("-MOVED 0 127.0.0.1:{}\r\n", to.get().unwrap()[0]))
    });
    ports.set([first.port, second.port]).unwrap();
    let (servers, _notes) = cluster(&[&first]);
    let key = low_keys().next().unwrap();
    servers.ask(vec![script(&ECHO, &key, "x")]).await.unwrap();
    // One comes back from the one node, one from the other, and the first of them is answered last.
    servers.ask(vec![plain("GET foo"), script(&ECHO, &key, "y")]).await.unwrap();
    let words = first.asked().into_iter().filter(|words| !words.starts_with("CLUSTER"));
    let words = words.filter_map(|words| Some(words.split_once(' ')?.0.to_owned()));
    assert_eq!(words.collect::<Vec<_>>(), ["EVAL", "EVALSHA", "GET", "EVAL"]);
}

#[tokio::test]
async fn a_node_that_is_new_is_found_when_a_key_has_moved_there() {
    let ports = Arc::<OnceLock<[u16; 3]>>::default();
    let is_there = Arc::<AtomicBool>::default();
    let (known, there) = (Arc::clone(&ports), Arc::clone(&is_there));
    let first = Scripted::start(move |words| {
        let [first, second, third] = *known.get().unwrap();
        match words.split(' ').next() {
            Some("CLUSTER") if there.load(Relaxed) => Some(halves(third, second)),
            Some("CLUSTER") => Some(halves(first, second)),
            Some("GET") => Some(format!("-MOVED 0 127.0.0.1:{third}\r\n")),
            _ => None,
        }
    });
    let subscribed = Arc::<AtomicUsize>::default();
    let counted = Arc::clone(&subscribed);
    let second = Scripted::start(move |words| {
        counted.fetch_add(usize::from(words.starts_with("SUBSCRIBE")), Relaxed);
        None
    });
    let third = Scripted::start(|_| None);
    ports.set([first.port, second.port, third.port]).unwrap();
    let (servers, _notes) = cluster(&[&first]);
    servers.connect().await.unwrap();
    let generation = servers.standing().generation();
    let get = format!("GET {}", low_keys().next().unwrap());
    assert!(one(&servers, &get).await.unwrap_err().0.contains("127.0.0.1"));
    is_there.store(true, Relaxed);
    assert_eq!(eventually(&servers, &get).await.value, Value::Okay);
    assert_eq!(third.asked(), [get]);
    // Whoever is connected is asked too where the masters are, and stays connected.
    assert!(second.asked().contains(&"CLUSTER SLOTS".to_owned()));
    assert_eq!(subscribed.load(Relaxed), 1);
    assert!(servers.standing().generation() > generation);
}

#[tokio::test]
async fn what_all_nodes_tell_is_heard_once() {
    let ports = Arc::<OnceLock<[u16; 2]>>::default();
    let node = || {
        let known = Arc::clone(&ports);
        Scripted::start(move |words| match words.split(' ').next() {
            Some("CLUSTER") => Some(halves(known.get().unwrap()[0], known.get().unwrap()[1])),
            Some("GET") => Some(format!(">3\r\n+message\r\n{}{}+OK\r\n", bulk("news"), bulk("said"))),
            _ => None,
        })
    };
    let (first, second) = (node(), node());
    ports.set([first.port, second.port]).unwrap();
    let (servers, notes) = cluster(&[&first]);
    let (low, high) = (format!("GET {}", low_keys().next().unwrap()), "GET foo");
    for (get, times) in [(low.as_str(), 1), (high, 1), (high, 2), (&low, 2)] {
        one(&servers, get).await.unwrap();
        assert_eq!(notes.heard(), vec!["said"; times]);
    }
}

#[tokio::test]
async fn what_most_say_counts() {
    let ports = Arc::<OnceLock<[u16; 2]>>::default();
    let says = |who: usize, and: usize| {
        let known = Arc::clone(&ports);
        Scripted::start(move |words| {
            let ports = known.get().unwrap();
            words.starts_with("CLUSTER").then(|| halves(ports[who], ports[and]))
        })
    };
    let (cut_off, second, third) = (says(0, 0), says(1, 0), says(1, 0));
    ports.set([cut_off.port, second.port]).unwrap();
    let (servers, _notes) = cluster(&[&cut_off, &second, &third]);
    let set = format!("SET {} 1", low_keys().next().unwrap());
    one(&servers, &set).await.unwrap();
    assert!(second.asked().contains(&set));

    let (old, new) = (Scripted::start(|_| None), Scripted::start(|_| None));
    let master = |server: &Scripted| {
        let answer = format!("*2\r\n{}{}", bulk("127.0.0.1"), bulk(&server.port.to_string()));
        Scripted::start(move |words| words.starts_with("SENTINEL").then(|| answer.clone()))
    };
    let ignorant = Scripted::start(|words| words.starts_with("SENTINEL").then(|| "_\r\n".into()));
    let sentinels = [master(&old), ignorant, master(&new), master(&new)];
    let urls = sentinels.each_ref().map(Scripted::url);
    let place = Place::sentinel(urls.iter().map(String::as_str), "main", "redis://any").unwrap();
    let (servers, _notes) = self::servers(Config { patience: LONG, ..Config::new(place, "news") });
    one(&servers, "SET a 1").await.unwrap();
    assert_eq!((old.asked(), new.asked()), (vec![], vec!["SET a 1".into()]));
    assert_eq!(sentinels[1].asked(), ["SENTINEL GET-MASTER-ADDR-BY-NAME main"]);
}

#[tokio::test]
async fn servers_that_are_of_no_use_any_more_are_left() {
    for (code, is_left) in [
        ("READONLY", true),
        ("MASTERDOWN", true),
        ("LOADING", true),
        ("NOAUTH", true),
        ("CLUSTERDOWN", true),
        ("OOM", false),
        ("WRONGTYPE", false),
        ("ERR", false),
    ] {
        let server = Scripted::start(move |words| words.starts_with("GET").then(|| format!("-{code} for now\r\n")));
        let (servers, _notes) = servers(config(&server.url()));
        servers.connect().await.unwrap();
        let generation = servers.standing().generation();
        let refused = one(&servers, "GET a").await.unwrap_err();
        assert!(refused.0.contains("for now"), "{refused}");
        assert_eq!(servers.standing().is_down(), is_left, "{code}");
        assert_eq!(eventually(&servers, "SET a 1").await.value, Value::Okay);
        assert_eq!(servers.standing().generation() > generation, is_left, "{code}");
    }
}

#[tokio::test]
async fn servers_that_speak_nonsense_are_refused() {
    let nonsense = [
        "\0\x01\x02\x03\r\n",
        "$4294967295\r\n",
        "*9223372036854775807\r\n",
        "%-1\r\n",
        "|9223372036854775807\r\n",
        "HTTP/1.1 400 Bad Request\r\n\r\n",
        ":1\r\n",
        "$5\r\nab",
        "",
    ];
    let refused = together(nonsense.into_iter().flat_map(|nonsense| {
        ["HELLO", "SUBSCRIBE", "INFO", "PING"].map(|command| async move {
            let server = Scripted::start(move |words| words.starts_with(command).then(|| nonsense.to_owned()));
            let (servers, _notes) = servers(config(&server.url()));
            (servers.connect().await.is_err(), nonsense, command)
        })
    }));
    for (is_refused, nonsense, command) in refused.await {
        // A number is an answer to a greeting like any other.
        assert_eq!(is_refused, nonsense != ":1\r\n" || command == "INFO", "{command}: {nonsense:?}");
    }
}

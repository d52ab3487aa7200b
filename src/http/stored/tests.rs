//! What a stored response weighs, and what it says of itself when it is stale.

use std::time::Duration;

use super::{giving::undated, *};
use crate::{
    codec::Codec,
    http::{Mode, unstored::Unstored},
};

#[test] // P45
fn a_stale_response_keeps_what_it_says_but_its_freshness() {
    for (said, left) in [
        (&[][..], "max-age=0"),
        (&[""], "max-age=0"),
        (&["Max-Age=9, public , s-maxage=9,no-transform"], "max-age=0, public, no-transform"),
        (&["public, max-age=9", "s-maxage=9, no-transform"], "max-age=0, public, no-transform"),
        (&["x=\"a, max-age=9\", max-age=9"], "max-age=0, x=\"a, max-age=9\""),
        (&["x=\"a, max-age=9"], "max-age=0, x=\"a"),
        (&["private=\"x-a, x-b\"", "public"], "max-age=0, private=\"x-a, x-b\", public"),
        (&[", immutable,,stale-while-revalidate=9"], "max-age=0"),
    ] {
        let line = |line: &&str| (header::CACHE_CONTROL, HeaderValue::from_str(line).expect("a value"));
        let mut headers = HeaderMap::new();
        said.iter().map(line).for_each(|(name, value)| _ = headers.append(name, value));
        assert_eq!(is_dated(&headers), !said.is_empty());
        headers.insert(header::EXPIRES, HeaderValue::from_static("Thu, 01 Jan 2032 00:00:00 GMT"));
        assert!(is_dated(&headers));
        assert_eq!(undated(&mut headers), left);
        assert_eq!(headers.get(header::EXPIRES), None);
    }
}

#[test] // P45
fn that_it_may_pass_for_fresh_is_known_of_a_response_however_it_came_about() {
    let omitted = Unstored::new(Mode::Application).of(&HeaderMap::new(), None);
    let head = |fields: &[(HeaderName, &'static str)]| {
        let mut head = Response::new(()).into_parts().0;
        head.headers.extend(fields.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))));
        head
    };
    let of = |fields: &[_]| StoredResponse::new(&head(fields), &omitted);
    let whole = |stored: StoredResponse| stored.complete(Bytes::from_static(b"x"), None, &omitted);
    let dates = [(header::EXPIRES, "Sun, 06 Nov 2094 08:49:37 GMT"), (header::CACHE_CONTROL, "max-age=60")];
    for fields in [&dates[..0], &dates[..1], &dates[1..], &dates[..]] {
        let (bare, lines) = (whole(of(&[])), of(fields));
        let lines: Vec<_> = lines.fields().collect();
        let packed = Packed.encode(&whole(of(fields))).expect("it is short");
        for (number, stored) in [
            of(fields),
            whole(of(fields)),
            StoredResponse::whole(&head(fields), &Bytes::from_static(b"x"), &omitted, true),
            bare.with_fields(&lines),
            bare.with_fields(&lines).having_heard(of(&[])),
            whole(of(fields)).without(Some(&Fields::new(["x-withheld".into()].into()))),
            Packed.decode(&packed).expect("it was written"),
        ]
        .into_iter()
        .enumerate()
        {
            assert_eq!(stored.is_dated, !fields.is_empty(), "{number}: {fields:?}");
        }
        assert!(!whole(of(fields)).with_fields(&[]).is_dated, "nothing says so any more");
    }
}

#[test] // P45
fn values_are_kept_as_they_came_whether_others_have_them_or_not() {
    let mut head = Response::new(()).into_parts().0;
    let values = [&b""[..], b"en", b"\xe9\xff", b"\ta ,b", &[b'x'; 4_000], b"en"];
    for (name, value) in
        ["content-language", "x-own", "server"].iter().flat_map(|name| values.map(|value| (name, value)))
    {
        for sensitive in [false, true] {
            let mut value = HeaderValue::from_bytes(value).unwrap();
            value.set_sensitive(sensitive);
            head.headers.append(*name, value);
        }
    }
    let omitted = Unstored::new(Mode::Protocol).of(&head.headers, None);
    let stored = StoredResponse::new(&head, &omitted).complete(Bytes::new(), None, &omitted);
    for name in head.headers.keys() {
        let lines = |headers: &HeaderMap| {
            let lines = headers.get_all(name).iter();
            lines.map(|line| (line.as_bytes().to_vec(), line.is_sensitive())).collect::<Vec<_>>()
        };
        assert_eq!(lines(stored.head()), lines(&head.headers), "{name}");
    }
}

#[test] // P45, P63
fn a_response_is_the_same_whatever_was_stored_before_it_and_has_no_room_for_more() {
    let values = [&b""[..], b"en", b"de", b"\xe9\xff", &[b'x'; 600]];
    let body = |lot: &mut fastrand::Rng| Bytes::from_static(&[b'b'; 12_000][..lot.choice([0, 4, 7, 12_000]).unwrap()]);
    let (mut names, mut lot) = (["content-language", "server", "x-own", "x-two"], fastrand::Rng::with_seed(7));
    for _ in 0..2_000 {
        lot.shuffle(&mut names[1..]);
        let mut head = Response::new(()).into_parts().0;
        // Few kinds of responses, so that most are like one before, or have its names in another order; and some that are
        // too long for that.
        let times = if lot.u8(..8) == 0 { 40 } else { 1 };
        for name in names {
            for _ in 0..times * lot.usize(..3) {
                let mut value = HeaderValue::from_bytes(lot.choice(values).unwrap()).unwrap();
                value.set_sensitive(lot.u8(..8) == 0);
                head.headers.append(name, value);
            }
        }
        head.status = lot.choice([StatusCode::OK, StatusCode::NO_CONTENT]).unwrap();
        let (omitted, body) = (Unstored::new(Mode::Protocol).of(&head.headers, None), body(&mut lot));
        let bit_by_bit = || StoredResponse::new(&head, &omitted).complete(body.clone(), None, &omitted);
        let at_once = || StoredResponse::whole(&head, &body, &omitted, false);
        let (one, other) = (bit_by_bit(), at_once());
        let lines = |stored: &StoredResponse| {
            let lines = stored.head().iter().map(|(name, value)| (name.clone(), value.clone(), value.is_sensitive()));
            lines.collect::<Vec<_>>()
        };
        assert_eq!((lines(&one), one.content()), (lines(&other), other.content()));
        // By now there is one like it.
        let taken = |make: &dyn Fn() -> StoredResponse| {
            let mut made = None;
            allocation_counter::measure(|| made = Some(make())).bytes_current
        };
        assert!(taken(&at_once) <= taken(&bit_by_bit) + body.len() as i64);
    }
}

#[test] // P45
fn lines_that_do_not_stand_together_go_where_their_names_are() {
    let name = HeaderName::from_static;
    let value = HeaderValue::from_static;
    let lines = [(name("x-a"), "1"), (name("x-b"), "2"), (AGE, "3"), (name("x-a"), "4")]
        .map(|(name, text)| (name, value(text)));
    let lines: Vec<_> = lines.iter().map(|(name, value)| (name, value)).collect();
    for _ in 0..2 {
        let (headers, body) = pattern::copied(&lines, b"body");
        assert_eq!(body, "body");
        for (name, expected) in [(name("x-a"), &["1", "4"][..]), (name("x-b"), &["2"]), (AGE, &["0", "3"])] {
            assert_eq!(headers.get_all(name).iter().collect::<Vec<_>>(), expected);
        }
    }
}

#[test] // P63
fn what_a_thread_remembers_is_small_however_long_the_names_are_and_whatever_values_are_parts_of() {
    let of = |name: usize, length: &Bytes| {
        let names: Vec<_> =
            (0..8).map(|at| HeaderName::try_from(format!("x-{at}-{}", "n".repeat(name))).unwrap()).collect();
        let mut lines: Vec<_> = names.iter().map(|name| (name, HeaderValue::from_static("1"))).collect();
        lines.push((&header::CONTENT_LENGTH, HeaderValue::from_maybe_shared(length.clone()).unwrap()));
        drop(pattern::copied(&lines.iter().map(|(name, value)| (*name, value)).collect::<Vec<_>>(), b""));
    };
    let kept = allocation_counter::measure(|| {
        for name in (1..32).chain(10_000..10_032) {
            let record = Bytes::from(format!("{}{}", 30_000 + name, "b".repeat(100_000)));
            of(name, &record.slice(..5));
        }
    });
    assert!(kept.bytes_current < 64 << 10, "{} bytes", kept.bytes_current);
}

#[test] // P63
fn a_response_that_was_brought_up_to_date_weighs_what_it_takes() {
    let response = |value: usize, body: usize, etag: bool| {
        let mut head = Response::new(()).into_parts().0;
        head.headers.insert("x-own", HeaderValue::from_str(&"v".repeat(value)).unwrap());
        let omitted = Unstored::new(Mode::Protocol).of(&head.headers, None);
        let stored = StoredResponse::whole(&head, &Bytes::from(vec![b'x'; body]), &omitted, etag);
        // Twice: what the first leaves behind is no burden for the second.
        let once = stored.with_fields(&stored.fields().collect::<Vec<_>>());
        let twice = once.with_fields(&once.fields().collect::<Vec<_>>());
        [stored, once, twice].map(|stored| {
            let _given_out = (stored.headers.clone(), stored.body.clone());
            Box::new(stored)
        })
    };
    for (value, body) in [(10, 10), (3_000, 10), (10, 3_000), (3_000, 3_000), (1_000, 100_000)] {
        for (etag, at) in (0..3).flat_map(|at| [false, true].map(|etag| (etag, at))) {
            // By now what its thread remembers is there.
            drop(response(value, body, etag));
            let mut one = None;
            let taken = allocation_counter::measure(|| one = response(value, body, etag).into_iter().nth(at));
            let (taken, weight) = (taken.bytes_current as f64, one.unwrap().weight() as f64);
            let part = taken / weight;
            assert!((0.75..1.15).contains(&part), "{value}, {body}, {etag}, {at}: {taken} taken, {weight} weighed");
        }
    }
}

#[test] // P63
fn a_response_weighs_what_it_takes() {
    let response = |names: usize, lines: usize, trailers: bool, said: bool, tagged: bool| {
        let mut head = Response::new(()).into_parts().0;
        for (name, line) in (0..names).flat_map(|name| (0..lines).map(move |line| (name, line))) {
            let name = HeaderName::try_from(format!("x-field-{name}")).unwrap();
            head.headers.append(name, HeaderValue::from(line));
        }
        let trailers = trailers.then(|| head.headers.clone());
        for line in if said { 0..9 } else { 0..0 } {
            head.headers.append(CACHE_STATUS, HeaderValue::from_static("further-in; fwd=miss; stored; ttl=60"));
            head.headers.append(OWN, HeaderValue::from(line));
        }
        let omitted = Unstored::new(Mode::Protocol).of(&head.headers, None);
        let stored = StoredResponse::new(&head, &omitted).complete(Bytes::from(vec![b'x'; 100]), trailers, &omitted);
        let stored = if tagged { stored.tag() } else { stored };
        // Whoever gets it shares what it holds.
        let _given_out = (stored.headers.clone(), stored.body.clone(), stored.own().collect::<Vec<_>>());
        Box::new(stored)
    };
    for (names, lines) in [(0, 0), (1, 1), (20, 1), (60, 1), (20, 2), (1, 60), (1, 600), (3, 33)] {
        for of in 0..8 {
            let [trailers, said, tagged] = [1, 2, 4].map(|bit| of & bit != 0);
            let mut stored = None;
            let taken = allocation_counter::measure(|| stored = Some(response(names, lines, trailers, said, tagged)));
            let (taken, weight) = (taken.bytes_current as f64, stored.unwrap().weight() as f64);
            let (part, of) = (taken / weight, (names, lines, trailers, said, tagged));
            assert!((0.85..1.15).contains(&part), "{of:?}: {taken} taken, {weight} weighed");
        }
    }
}

#[test] // P45
fn ages_are_written_as_whole_seconds_of_any_size() {
    for (age, written) in [
        (0, "0"),
        (9, "9"),
        (10, "10"),
        (99, "99"),
        (100, "100"),
        (1_000, "1000"),
        (9_999, "9999"),
        (10_000, "10000"),
        (u64::MAX, "2147483648"),
    ] {
        assert_eq!(age_value(Duration::new(age, 999_999_999)), written);
    }
}

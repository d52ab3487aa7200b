//! What is known of one key, as entries come and go.

use super::*;
use crate::{
    clock,
    entry::{Early, Generation},
    freshness::Freshness,
    judgement::Judgement,
    tags::Tags,
};

const SECOND: Duration = Duration::from_secs(1);

fn slot() -> Slot<&'static str> {
    Slot::new(Key::from("k"))
}

fn entry(run: u64, variant: Option<&str>) -> Arc<Entry<&'static str>> {
    let freshness = Freshness::exact(60 * SECOND).stale_while_revalidate(10 * SECOND);
    let mut judged = Judgement::storable(freshness);
    judged.fields = variant.map(|_| Arc::new([Box::from("accept")].into()));
    judged.tags = Tags::new(["t"]);
    let variant = variant.map(|values| Arc::new(values.as_bytes().into()));
    Arc::new(Entry {
        value: "v",
        started: clock::now(),
        early: Early::default(),
        run,
        judged,
        variant,
        weight: 1,
        generation: Generation::default(),
        refreshing: Default::default(),
    })
}

fn runs(slot: &Slot<&str>) -> Vec<u64> {
    slot.variants.iter().map(|kept| kept.entry.run).collect()
}

#[test] // P25
fn a_run_that_started_earlier_never_replaces_one_that_started_later() {
    let mut slot = slot();
    assert_eq!(slot.admit(entry(2, None), None, 16), Admission::Stored);
    assert_eq!(slot.admit(entry(1, None), None, 16), Admission::Superseded);
    assert_eq!(slot.admit(entry(1, Some("a")), None, 16), Admission::Superseded);
    assert_eq!(slot.admit(entry(3, None), None, 16), Admission::Stored);
    assert_eq!(runs(&slot), [3]);
}

#[test] // P44
fn variants_are_kept_side_by_side_and_the_one_unused_for_longest_goes() {
    let mut slot = slot();
    for (run, variant) in [(1, "a"), (2, "b"), (3, "c")] {
        slot.admit(entry(run, Some(variant)), None, 3);
    }
    assert_eq!(runs(&slot), [3, 2, 1]);
    slot.variants[2].touch(&slot);
    slot.admit(entry(4, Some("d")), None, 3);
    assert_eq!(runs(&slot), [4, 3, 1], "b was unused for longest");
    slot.admit(entry(5, Some("c")), None, 3);
    assert_eq!(runs(&slot), [5, 4, 1], "c makes room for itself");
}

#[test] // P44
fn the_one_unused_for_longest_goes_also_when_the_clock_of_uses_has_come_to_its_end() {
    let mut slot = slot();
    for (run, variant) in [(1, "a"), (2, "b"), (3, "c")] {
        slot.admit(entry(run, Some(variant)), None, 3);
    }
    for (at, used) in [(2, 7), (1, u32::MAX), (0, u32::MAX - 2)] {
        slot.variants[at].used.store(used, Relaxed);
    }
    slot.variants[0].touch(&slot);
    slot.admit(entry(4, Some("d")), None, 3);
    assert_eq!(runs(&slot), [4, 3, 2], "a was unused for longest");
    slot.variants[2].touch(&slot);
    slot.variants[0].touch(&slot);
    slot.admit(entry(5, Some("e")), None, 3);
    assert_eq!(runs(&slot), [5, 4, 2], "c was unused for longest");
}

#[test] // P44
fn the_list_of_selecting_fields_outlives_the_entries() {
    let mut slot = slot();
    slot.admit(entry(1, Some("a")), None, 16);
    slot.invalidate(&Scope::from(Key::from("k")), Force::Purge, clock::now());
    assert!(slot.variants.is_empty() && !slot.is_idle());
    slot.learn(Some(&Arc::new([Box::from("a-field"), Box::from("accept")].into())));
    assert_eq!(
        slot.fields.as_deref().map(|fields| &fields[..]),
        Some(&[Box::from("a-field"), Box::from("accept")][..])
    );
    slot.invalidate(&Scope::everything(), Force::Purge, clock::now());
    assert!(slot.is_idle());
}

#[test] // P22
fn pauses_double_up_to_a_minute_and_a_success_ends_them() {
    let mut slot = slot();
    let mut now = clock::now();
    slot.fail(now, 2, 0.0, false);
    assert!(slot.back_off().is_none(), "a cold miss has nothing to serve meanwhile");
    slot.admit(entry(1, None), None, 16);
    for pause in [1, 2, 4, 8, 16, 32, 60, 60] {
        slot.fail(now, 2, 0.0, false);
        assert_eq!(slot.back_off().map(|back_off| back_off.until), Some(now + pause * SECOND));
        assert!(slot.is_backing_off(now) && !slot.is_backing_off(now + pause * SECOND));
        now += pause * SECOND;
    }
    slot.fail(now, 2, 1.0, false);
    assert!(slot.back_off().is_some_and(|back_off| back_off.until == now + 30 * SECOND));
    slot.admit(entry(3, None), None, 16);
    slot.fail(now, 2, 0.0, false);
    assert!(!slot.is_backing_off(now));
}

#[test] // P63, P82
fn what_is_known_of_a_key_where_nothing_is_stored_is_forgotten_in_the_end() {
    let now = clock::now();
    let mut shown = slot();
    shown.show_until(now + SECOND);
    shown.drop_past(now);
    assert!(shown.is_shown(now) && !shown.is_idle());
    shown.drop_past(now + SECOND);
    assert!(shown.is_idle());

    let mut failed = slot();
    failed.fail(now, 1, 0.0, false);
    assert!(failed.is_idle(), "nothing stands in: there is nothing to put off");
    failed.fail(now, 1, 0.0, true);
    failed.drop_past(now + 60 * SECOND);
    assert!(!failed.is_backing_off(now + 60 * SECOND) && !failed.is_idle(), "the next pause is a longer one");
    failed.drop_past(now + 61 * SECOND);
    assert!(failed.is_idle());
}

#[test] // P34
fn an_expired_entry_stays_only_as_long_as_it_may_be_served_stale() {
    let mut slot = slot();
    let now = clock::now();
    slot.admit(entry(1, None), None, 16);
    assert_eq!(slot.invalidate(&Scope::tag("other"), Force::Expire, now), 0);
    assert_eq!(slot.invalidate(&Scope::tag("t"), Force::Expire, now), 1);
    assert_eq!(slot.variants[0].verdict(now).0, Verdict::Stale);
    slot.drop_past(now + 71 * SECOND);
    assert!(slot.is_idle());
}

#[test] // P25
fn the_run_that_started_last_comes_first_whichever_landed_last() {
    let mut slot = slot();
    let mut other = Arc::into_inner(entry(2, Some("a"))).unwrap();
    other.judged.fields = Some(Arc::new([Box::from("accept"), Box::from("accept-language")].into()));
    slot.admit(Arc::new(other), None, 16);
    assert_eq!(slot.admit(entry(1, Some("a")), None, 16), Admission::Stored);
    assert_eq!(runs(&slot), [2, 1]);
}

#[test] // P15, P25
fn an_older_run_does_not_mark_what_a_newer_one_has_shown_to_be_storable() {
    let mut slot = slot();
    let until = clock::now() + SECOND;
    slot.admit(entry(2, None), None, 16);
    slot.mark_until(until, 1);
    assert!(!slot.is_marked(clock::now()));
    slot.mark_until(until, 3);
    assert!(slot.is_marked(clock::now()));
}

#[test] // P22
fn runs_that_fail_together_are_one_failure() {
    let mut slot = slot();
    let now = clock::now();
    slot.admit(entry(1, None), None, 16);
    (0..10).for_each(|_| slot.fail(now, 2, 0.0, false));
    assert_eq!(slot.back_off().map(|back_off| back_off.until), Some(now + SECOND));
}

#[test] // P63
fn a_slot_weighs_what_it_takes() {
    let names = |count: usize| (0..count).map(|n| format!("accept-something-{n}").into_boxed_str());
    for (variants, fields, tags) in [(0, 0, 0), (0, 9, 0), (1, 0, 0), (1, 0, 9), (1, 9, 0), (9, 1, 0), (9, 30, 9)] {
        let mut kept = None;
        let taken = allocation_counter::measure(|| {
            let mut slot = Slot::new(Key::from("/a/path/of/some/length"));
            slot.learn((fields > 0).then(|| Arc::new(names(fields).collect())).as_ref());
            for run in 0..variants {
                let mut entry = Arc::into_inner(entry(run, Some(&run.to_string()))).unwrap();
                entry.judged.fields = (fields > 0).then(|| Arc::new(names(fields).collect()));
                entry.judged.withheld = (fields > 0).then(|| Arc::new(names(fields).collect()));
                entry.judged.tags = Tags::new(names(tags).map(String::from));
                slot.admit(Arc::new(entry), None, 16);
            }
            kept = Some(Arc::new(slot));
        });
        let kept = kept.unwrap();
        let elsewhere = kept.headings().map(Heading::weight).sum::<usize>() + PLACE_WEIGHT;
        // Of a value that is text the entry holds all there is.
        let values = kept.variants.len() * size_of::<&str>();
        let weight = kept.weight() as usize - kept.variants.len() - elsewhere + values;
        let part = taken.bytes_current as f64 / weight as f64;
        assert!((0.9..1.1).contains(&part), "{variants}, {fields}, {tags}: {taken:?}, {weight} weighed");
    }
}

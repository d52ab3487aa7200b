//! However many take and give back at once: no permit too many is out, none is lost, and each layer gets its share.

use super::*;
use crate::permits::{Permits, Share};

/// Takes all that it is given.
fn take_all(share: &Arc<Share>) -> usize {
    let taken: Vec<_> = std::iter::from_fn(|| share.take()).collect();
    taken.len()
}

#[test] // P24
fn no_more_than_the_limit_are_out_and_all_come_back() {
    with_preemptions(3, || {
        let permits = Arc::new(Permits::new(2));
        let (share, out) = (permits.share(), Arc::new(AtomicUsize::new(0)));
        let take = {
            let (share, out) = (Arc::clone(&share), Arc::clone(&out));
            move || {
                let Some(permit) = share.take() else { return };
                assert!(out.fetch_add(1, SeqCst) < 2, "one too many");
                out.fetch_sub(1, SeqCst);
                drop(permit);
            }
        };
        let others = [(); 2].map(|()| thread::spawn(take.clone()));
        take();
        for other in others {
            other.join().unwrap();
        }
        assert_eq!((permits.out(), take_all(&share)), (0, 2));
    });
}

#[test] // P24
fn a_layer_leaves_the_others_their_share_whoever_comes_first() {
    in_every_order(|| {
        let permits = Arc::new(Permits::new(2));
        let (hung, other) = (permits.share(), permits.share());
        let refreshes = [(); 2].map(|()| {
            let hung = Arc::clone(&hung);
            thread::spawn(move || hung.take())
        });
        let of_other = other.take();
        let of_hung = refreshes.map(|refresh| refresh.join().unwrap());
        assert!(of_other.is_some(), "it was left nothing");
        assert_eq!(of_hung.iter().flatten().count(), 1);
    });
}

#[test] // P27
fn a_drain_waits_for_what_is_out_and_nothing_is_taken_after_it() {
    with_preemptions(3, || {
        let permits = Arc::new(Permits::new(2));
        let (share, held) = (permits.share(), permits.share().take());
        let running = thread::spawn(move || drop(held));
        let late = {
            let share = Arc::clone(&share);
            thread::spawn(move || drop(share.take()))
        };
        permits.withdraw();
        block_on(permits.all_back());
        assert_eq!((permits.out(), take_all(&share)), (0, 0));
        running.join().unwrap();
        late.join().unwrap();
    });
}

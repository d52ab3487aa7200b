//! However many gather their questions at once: each is answered with what was so after he came, or let go.

use super::*;
use crate::store::gathering::Gathering;

/// Asks. If it is the turn of this one it sees to it that all are answered who have gathered, or lets them go. Whether there was an
/// answer.
fn ask(gathering: &Arc<Gathering<usize, ()>>, changes: &AtomicUsize, lets_go: bool) -> bool {
    let (answered, turn) = gathering.join(changes.load(SeqCst));
    if let Some(turn) = turn.filter(|_| !lets_go) {
        let all = turn.take();
        let now = changes.load(SeqCst);
        for asked in all {
            assert!(asked.question <= now, "the answer is older than the question");
            asked.answer.send(()).unwrap();
        }
    }
    block_on(answered).is_ok()
}

/// How many of three are answered, of whom the first lets the others go or does not.
fn in_every_order_of_three(lets_go: bool, check: fn(usize)) {
    with_preemptions(3, move || {
        let (gathering, changes) = (Arc::new(Gathering::new()), Arc::new(AtomicUsize::new(0)));
        let others = [(); 2].map(|()| {
            let (gathering, changes) = (Arc::clone(&gathering), Arc::clone(&changes));
            thread::spawn(move || {
                changes.fetch_add(1, SeqCst);
                ask(&gathering, &changes, false)
            })
        });
        let first = ask(&gathering, &changes, lets_go);
        let answered = others.map(|other| other.join().unwrap());
        check([first].iter().chain(&answered).filter(|answered| **answered).count());
        assert!(gathering.join(0).1.is_some(), "nobody has the turn any more");
    });
}

#[test] // P71
fn everybody_is_answered_with_what_was_so_after_he_came() {
    in_every_order_of_three(false, |answered| assert_eq!(answered, 3));
}

#[test] // P74
fn whoever_lets_the_others_go_leaves_none_of_them_waiting() {
    in_every_order_of_three(true, drop);
}

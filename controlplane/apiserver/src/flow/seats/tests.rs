use super::*;

fn limited(shares: usize, lendable_percent: usize, overflow: Overflow) -> Terms {
    Terms::Limited { shares, lendable_percent, borrow_percent: None, overflow }
}

fn queue(length: usize) -> Overflow {
    Overflow::Queue { queues: 8, hand: 2, length }
}

fn runs(entry: &Entry) -> bool {
    matches!(entry, Entry::Run)
}

/// Fills a level until a request does not run at once; how many did.
fn fill(seats: &mut Seats, level: &str) -> usize {
    let mut count = 0;
    loop {
        match seats.enter(level, 0) {
            Entry::Run => count += 1,
            Entry::Wait(ticket, _) => {
                assert!(seats.give_up(level, ticket));
                return count;
            }
            Entry::Refused(_) => return count,
        }
    }
}

#[test]
fn seats_are_shared_by_shares_and_lent_but_for_the_reserve() {
    let mut seats = Seats::new(100);
    seats.configure("big", limited(30, 50, queue(5)));
    seats.configure("small", limited(10, 0, queue(5)));
    // `big` keeps 37 of its 75 for itself; the other 38 and the 25 of `small` are for `small`.
    assert_eq!(fill(&mut seats, "small"), 63);
    assert_eq!(fill(&mut seats, "big"), 75, "its own seats it has at once");
    for _ in 0..63 {
        seats.leave("small");
    }
    assert_eq!(fill(&mut seats, "big"), 0, "`small` lends none");
    assert_eq!(fill(&mut seats, "small"), 25);
}

#[test]
fn borrowing_has_its_own_limit_and_exempt_has_none() {
    let mut seats = Seats::new(100);
    let borrow_percent = Some(20);
    let overflow = Overflow::Reject;
    seats.configure(
        "l",
        Terms::Limited { shares: 1, lendable_percent: 100, borrow_percent, overflow },
    );
    seats.configure("other", limited(1, 100, Overflow::Reject));
    seats.configure("free", Terms::Exempt);
    assert_eq!(fill(&mut seats, "l"), 60);
    assert!(matches!(seats.enter("l", 0), Entry::Refused("concurrency-limit")));
    for _ in 0..1000 {
        assert!(runs(&seats.enter("free", 0)));
    }
    assert_eq!(fill(&mut seats, "other"), 50, "the exempt take nobody's seat");
}

#[test]
fn who_waits_is_called_when_a_seat_is_free_flow_by_flow() {
    let mut seats = Seats::new(1);
    seats.configure("l", limited(1, 0, Overflow::Queue { queues: 64, hand: 1, length: 5 }));
    assert!(runs(&seats.enter("l", 0)));
    let mut told = Vec::new();
    // Flow 1 comes three times before flow 2 comes once.
    for flow in [1, 1, 1, 2] {
        let Entry::Wait(_, go) = seats.enter("l", flow) else { panic!("there is no seat") };
        told.push(go);
    }
    let mut order = Vec::new();
    for _ in 0..4 {
        seats.leave("l");
        for (index, go) in told.iter_mut().enumerate() {
            if go.try_recv().is_ok() {
                order.push(index);
            }
        }
    }
    assert_eq!(order, [0, 3, 1, 2], "the busy flow does not keep the other waiting");
}

#[test]
fn a_full_queue_refuses_and_who_gives_up_makes_room() {
    let mut seats = Seats::new(1);
    seats.configure("l", limited(1, 0, Overflow::Queue { queues: 1, hand: 1, length: 2 }));
    assert!(runs(&seats.enter("l", 0)));
    let Entry::Wait(first, _go) = seats.enter("l", 0) else { panic!() };
    let Entry::Wait(_, mut second) = seats.enter("l", 0) else { panic!() };
    assert!(matches!(seats.enter("l", 0), Entry::Refused("queue-full")));
    assert!(seats.give_up("l", first));
    assert!(!seats.give_up("l", first));
    assert!(matches!(seats.enter("l", 0), Entry::Wait(..)));
    seats.leave("l");
    assert!(second.try_recv().is_ok());
}

#[test]
fn levels_change_and_go_without_losing_anybody() {
    let mut seats = Seats::new(1);
    seats.configure("l", limited(1, 0, queue(50)));
    assert!(runs(&seats.enter("l", 0)));
    let mut told: Vec<_> = (0..20)
        .map(|flow| match seats.enter("l", flow) {
            Entry::Wait(_, go) => go,
            other => panic!("{other:?}"),
        })
        .collect();
    seats.configure("l", limited(1, 0, Overflow::Queue { queues: 1, hand: 1, length: 50 }));
    seats.remove("l");
    for _ in 0..21 {
        seats.leave("l");
    }
    assert!(told.iter_mut().all(|go| go.try_recv().is_ok()), "all were called");
    assert_eq!(seats.counts(), [], "and then it was forgotten");
}

#[test]
fn a_hand_has_different_queues() {
    for flow in (0..100_000_u64).map(|number| number.wrapping_mul(0x9E37_79B9_7F4A_7C15)) {
        let mut dealt = deal(flow, 16, 6);
        assert!(dealt.iter().all(|queue| *queue < 16));
        dealt.sort_unstable();
        dealt.dedup();
        assert_eq!(dealt.len(), 6);
    }
    assert_eq!(deal(7, 2, 5).len(), 2);
}

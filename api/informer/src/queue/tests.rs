use futures::FutureExt;
use tokio::time::advance;

use super::*;

const RETRY: Retry = Retry { first: Duration::from_millis(5), cap: Duration::from_secs(1) };

fn queue() -> WorkQueue<&'static str> {
    WorkQueue::new(100, RETRY)
}

/// What is ready now, without waiting.
fn ready(queue: &WorkQueue<&'static str>) -> Option<&'static str> {
    queue.next().now_or_never().flatten()
}

#[tokio::test(start_paused = true)]
async fn keys_come_out_once_in_order() {
    let queue = queue();
    for key in ["a", "b", "a", "c", "b"] {
        queue.add(key);
    }
    assert_eq!([ready(&queue), ready(&queue), ready(&queue)], [Some("a"), Some("b"), Some("c")]);
    assert_eq!(ready(&queue), None);
}

#[tokio::test(start_paused = true)]
async fn a_key_is_never_worked_on_twice_at_once() {
    let queue = queue();
    queue.add("a");
    assert_eq!(ready(&queue), Some("a"));
    queue.add("a");
    assert_eq!(ready(&queue), None, "still being worked on");
    queue.done(&"a");
    assert_eq!(ready(&queue), Some("a"));
    queue.done(&"a");
    assert_eq!(ready(&queue), None);
    assert!(queue.is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_earlier_wish_wins() {
    let queue = queue();
    queue.add_after("a", Duration::from_secs(10));
    queue.add_after("a", Duration::from_secs(2));
    queue.add_after("a", Duration::from_secs(5));
    advance(Duration::from_millis(1999)).await;
    assert_eq!(ready(&queue), None);
    advance(Duration::from_millis(1)).await;
    assert_eq!(ready(&queue), Some("a"));
    queue.done(&"a");
    advance(Duration::from_secs(20)).await;
    assert_eq!(ready(&queue), None, "the later wishes were replaced");

    queue.add_after("b", Duration::from_secs(10));
    queue.add("b");
    assert_eq!(ready(&queue), Some("b"), "now is earlier than later");
}

#[tokio::test(start_paused = true)]
async fn a_reader_sleeps_exactly_until_the_next_key_is_due() {
    let queue = queue();
    queue.add_after("a", Duration::from_secs(3));
    let before = Instant::now();
    assert_eq!(queue.next().await, Some("a"));
    assert_eq!(before.elapsed(), Duration::from_secs(3));
}

#[tokio::test(start_paused = true)]
async fn a_delay_that_ends_during_work_runs_after_it() {
    let queue = queue();
    queue.add("a");
    assert_eq!(ready(&queue), Some("a"));
    queue.add_after("a", Duration::from_secs(1));
    advance(Duration::from_secs(2)).await;
    assert_eq!(ready(&queue), None);
    queue.done(&"a");
    assert_eq!(ready(&queue), Some("a"));
}

#[tokio::test(start_paused = true)]
async fn retries_back_off_until_forgotten() {
    let queue = queue();
    let mut waits = Vec::new();
    for _ in 0..10 {
        waits.push(queue.retry("a").as_millis());
        assert_eq!(queue.next().await, Some("a"));
        queue.done(&"a");
    }
    assert_eq!(waits, [5, 10, 20, 40, 80, 160, 320, 640, 1000, 1000]);
    queue.forget(&"a");
    assert_eq!(queue.retry("a").as_millis(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_says_that_it_refused_a_key() {
    let queue = WorkQueue::new(2, RETRY);
    queue.add("a");
    queue.add_after("b", Duration::from_secs(1));
    assert!(!queue.take_overflowed());
    queue.add("a");
    assert!(!queue.take_overflowed(), "a known key needs no room");
    queue.add("c");
    assert!(queue.take_overflowed());
    assert!(!queue.take_overflowed());
    assert_eq!(queue.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn closing_wakes_every_reader() {
    let queue = queue();
    let readers: Vec<_> = (0..3)
        .map(|_| {
            let queue = queue.clone();
            tokio::spawn(async move { queue.next().await })
        })
        .collect();
    tokio::task::yield_now().await;
    queue.close();
    for reader in readers {
        assert_eq!(reader.await.unwrap(), None);
    }
    assert_eq!(queue.next().await, None);
}

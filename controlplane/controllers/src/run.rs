//! The one loop that runs every controller.
//!
//! A dispatcher turns changes of the views into keys in each controller's queue. Workers take a
//! key, plan, carry the plan out, and wait until the views show what was written before they let
//! the key go: so no plan is ever made from a view that lacks the controller's own last write.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use informer::{
    Action, ActionError, EventRecorder, EventType, Occurrence, Outcome, Retry, WorkQueue, Written,
    carry_out,
};
use jiff::Timestamp;
use kube::Client;
use objects::ObjectKey;
use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug, debug_span, info, info_span, warn};

use crate::controller::{Announcement, Context, Controller, Failure, Plan, Step};
use crate::world::{Announced, Changed, World};

/// Keys waiting per controller: the largest clusters upstream is tested with have 150,000 pods.
const KEYS_MAX: usize = 200_000;
/// Waits after failures: upstream's 5 ms at first; capped where a person still sees progress.
const RETRY: Retry = Retry { first: Duration::from_millis(5), cap: Duration::from_secs(60) };
/// How long a view may take to show a write before the key is let go anyway. In one process it
/// takes about a millisecond; this bounds the harm of a view that has lost its connection.
const SEEN_MAX: Duration = Duration::from_secs(5);

/// A controller with its queue.
struct Running {
    controller: Box<dyn Controller>,
    queue: WorkQueue<ObjectKey>,
    recorder: EventRecorder,
    failures: Mutex<HashMap<ObjectKey, Failure>>,
}

/// Runs controllers over a world until shutdown.
pub(crate) async fn run_all(
    controllers: Vec<Box<dyn Controller>>,
    client: Client,
    world: World,
    shutdown: CancellationToken,
) {
    let mut tasks = JoinSet::new();
    let mut running = Vec::new();
    for controller in controllers {
        let component = controller.component();
        let recorder = EventRecorder::new(client.clone(), component, None, shutdown.clone());
        let queue = WorkQueue::new(KEYS_MAX, RETRY);
        let failures = Mutex::new(HashMap::new());
        let one = Arc::new(Running { controller, queue, recorder, failures });
        let span = info_span!("controller", name = one.controller.name());
        for _ in 0..one.controller.workers() {
            let worker = work(Arc::clone(&one), client.clone(), world.clone());
            tasks.spawn(worker.instrument(span.clone()));
        }
        running.push(one);
    }
    tokio::select! {
        () = dispatch(&running, &world) => {}
        () = shutdown.cancelled() => {}
    }
    for one in &running {
        one.queue.close();
    }
    // Workers end after the key they are at; each request they make is bounded by the client.
    while tasks.join_next().await.is_some() {}
}

async fn dispatch(running: &[Arc<Running>], world: &World) {
    // Subscribed before the wait, so that nothing between it and the first look is missed.
    let mut changes = world.changes();
    world.wait_synced().await;
    info!("views are synced");
    while let Some(announced) = changes.next().await {
        match announced {
            Announced::Changed(changed) => wake(running, world, &changed),
            Announced::Resync => {
                // One look at everything answers all resyncs that are waiting already.
                let mut kept = Vec::new();
                while let Some(Some(more)) = futures::FutureExt::now_or_never(changes.next()) {
                    if let Announced::Changed(changed) = more {
                        kept.push(changed);
                    }
                }
                debug!("looking at everything again");
                kept.iter().for_each(|changed| wake(running, world, changed));
                world.announce_all(|changed| wake(running, world, &changed));
            }
        }
        if running.iter().any(|one| one.queue.take_overflowed()) {
            warn!("a queue is full; keys are looked at again once it has drained");
            world.announce_all(|changed| wake(running, world, &changed));
        }
    }
}

fn wake(running: &[Arc<Running>], world: &World, changed: &Changed) {
    for one in running {
        for key in one.controller.wakes(world, changed) {
            one.queue.add(key);
        }
    }
}

async fn work(one: Arc<Running>, client: Client, world: World) {
    while let Some(key) = one.queue.next().await {
        let span = debug_span!("reconcile", controller = one.controller.name(), %key);
        reconcile(&one, &client, &world, &key).instrument(span).await;
        one.queue.done(&key);
    }
}

async fn reconcile(one: &Running, client: &Client, world: &World, key: &ObjectKey) {
    let failure = one.failures.lock().get(key).cloned();
    let context = Context { now: Timestamp::now(), failure };
    let plan = one.controller.plan(world, key, &context);
    let Plan { steps, events, again_after } = plan;
    events.into_iter().for_each(|event| one.recorder.record(event));
    let (actions, announcements) = split(steps);
    if !actions.is_empty() {
        debug!(actions = actions.len(), "acting");
    }
    let outcome = carry_out(client, actions).await;
    announce(&one.recorder, &announcements, &outcome);
    if tokio::time::timeout(SEEN_MAX, seen(world, &outcome.written)).await.is_err() {
        warn!("the views do not show what was written; planning from them anyway");
    }
    match outcome.failed.first() {
        Some(error) => {
            let failure =
                Failure { verb: error.verb, code: error.code(), message: error.message() };
            report(error, &failure);
            one.failures.lock().insert(key.clone(), failure);
            one.queue.retry(key.clone());
        }
        None => {
            let had_failed = one.failures.lock().remove(key).is_some();
            one.queue.forget(key);
            // A plan that knew of the failure may have written it down: correct that.
            if had_failed {
                one.queue.add(key.clone());
            }
            if let Some(wait) = again_after {
                one.queue.add_after(key.clone(), wait);
            }
        }
    }
}

fn report(error: &ActionError, failure: &Failure) {
    let chain = error as &dyn std::error::Error;
    if error.is_stale() {
        debug!(error = chain, failure.message, "planned from an old view");
    } else {
        warn!(error = chain, failure.message, "action failed; will retry");
    }
}

type Announcements = Vec<(Action, Announcement)>;

fn split(steps: Vec<Step>) -> (Vec<Action>, Announcements) {
    let mut actions = Vec::with_capacity(steps.len());
    let mut announcements = Vec::new();
    for step in steps {
        if let Some(announcement) = step.announcement {
            announcements.push((step.action.clone(), announcement));
        }
        actions.push(step.action);
    }
    (actions, announcements)
}

/// Records the Events of actions that were tried.
fn announce(recorder: &EventRecorder, announcements: &Announcements, outcome: &Outcome) {
    // Creates with a generated name have no key of their own: the first written goes with the
    // first announced.
    let mut used = vec![false; outcome.written.len()];
    for (action, announcement) in announcements {
        let matches = |written: &Written| {
            written.resource == action.resource
                && written.key.namespace == action.key.namespace
                && (action.key.name.is_empty() || written.key.name == action.key.name)
        };
        let mut candidates = outcome.written.iter().enumerate();
        if let Some((at, written)) = candidates.find(|(at, one)| !used[*at] && matches(one)) {
            used[at] = true;
            let (reason, text) = &announcement.done;
            let message = text.replace("{name}", &written.key.name);
            record(recorder, announcement, EventType::Normal, reason, message);
        }
    }
    let Some(error) = outcome.failed.iter().find(|error| !error.is_stale()) else { return };
    let failed = announcements
        .iter()
        .find(|(action, _)| action.resource == error.resource && action.verb_name() == error.verb);
    if let Some((_, announcement)) = failed
        && let Some((reason, text)) = &announcement.failed
    {
        let message = text.replace("{error}", &error.message());
        record(recorder, announcement, EventType::Warning, reason, message);
    }
}

fn record(
    recorder: &EventRecorder,
    announcement: &Announcement,
    kind: EventType,
    reason: &str,
    message: String,
) {
    let regarding = announcement.regarding.clone();
    recorder.record(Occurrence { regarding, kind, reason: reason.to_string(), message });
}

/// Waits until the views show all that was written.
async fn seen(world: &World, written: &[Written]) {
    for one in written {
        for view in world.watched(&one.resource) {
            let mut progress = view.progress();
            // `changed` fails only when the view's writer is gone, at shutdown.
            while !view.has_seen(one) && progress.changed().await.is_ok() {}
        }
    }
}

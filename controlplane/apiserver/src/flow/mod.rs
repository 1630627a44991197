//! API priority and fairness: which requests run when there are more than the server can do.
//!
//! FlowSchemas sort requests into flows and priority levels (`schema.rs`); `seats.rs` decides who
//! runs, who waits and who is refused. Requests that go on for long (watches, streams) are sorted
//! but take no seat.

mod schema;
mod seats;
pub(crate) mod status;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::HeaderValue;
use k8s_openapi::api::flowcontrol::v1::{FlowSchema, PriorityLevelConfiguration};
use objects::ApiError;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::Notify;

use crate::answer::{self, Answer};
use crate::auth::Attributes;
use crate::identity::User;

use schema::Schema;
use seats::{Count, Entry, Overflow, Seats, Terms, Ticket};

/// Requests that run at once: upstream's `--max-requests-inflight` and
/// `--max-mutating-requests-inflight` together.
const SEATS: usize = 600;
/// Longest time in a queue: a quarter of the request's own time, as upstream.
const QUEUE_WAIT: Duration = Duration::from_secs(15);
/// Where requests go that no schema or level wants.
const CATCH_ALL: &str = "catch-all";

/// The server's flow control.
#[derive(Debug)]
pub struct Flow {
    /// In the order in which they are tried.
    schemas: ArcSwap<Vec<Arc<Schema>>>,
    /// Uids of priority levels, by name.
    levels: ArcSwap<std::collections::BTreeMap<String, String>>,
    seats: Arc<Mutex<Seats>>,
    /// Told of every change of the configuration.
    changed: Notify,
    refused: Mutex<std::collections::BTreeMap<(String, &'static str), u64>>,
}

impl Default for Flow {
    fn default() -> Self {
        Self::with_seats(SEATS)
    }
}

/// How a request was sorted; put on its answer.
#[derive(Debug, Clone)]
pub(crate) struct Sorted {
    schema: Arc<Schema>,
    level_uid: String,
}

/// A seat, or a place among the exempt; given back when dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    seats: Arc<Mutex<Seats>>,
    level: String,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.seats.lock().leave(&self.level);
    }
}

/// A place in a queue; left when dropped before the seat was taken.
struct Place {
    seats: Arc<Mutex<Seats>>,
    level: String,
    ticket: Ticket,
    seated: bool,
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.seated {
            return;
        }
        let mut seats = self.seats.lock();
        if !seats.give_up(&self.level, self.ticket) {
            // It was called up in the same moment: the seat goes on to the next.
            seats.leave(&self.level);
        }
    }
}

impl Flow {
    fn with_seats(total: usize) -> Self {
        Self {
            schemas: ArcSwap::default(),
            levels: ArcSwap::default(),
            seats: Arc::new(Mutex::new(Seats::new(total))),
            changed: Notify::new(),
            refused: Mutex::default(),
        }
    }

    /// Takes in an object of the group by its store key; `None` for one that is gone.
    pub(crate) fn apply(&self, key: &str, object: Option<&Value>) {
        let name = key.rsplit('/').next().unwrap_or_default();
        if key.contains("/flowschemas/") {
            let read = object.and_then(typed::<FlowSchema>);
            self.set_schema(name, read.map(Schema::of));
        } else if key.contains("/prioritylevelconfigurations/") {
            let read = object.and_then(typed::<PriorityLevelConfiguration>);
            self.set_level(name, read);
        }
        self.changed.notify_one();
    }

    /// Whether a priority level is configured.
    fn has_level(&self, name: &str) -> bool {
        self.levels.load().contains_key(name)
    }

    fn set_schema(&self, name: &str, schema: Option<Schema>) {
        self.schemas.rcu(|known| {
            let mut schemas: Vec<_> =
                known.iter().filter(|schema| schema.name != name).cloned().collect();
            schemas.extend(schema.clone().map(Arc::new));
            schemas.sort_by(|a, b| a.order().cmp(&b.order()));
            schemas
        });
    }

    fn set_level(&self, name: &str, level: Option<PriorityLevelConfiguration>) {
        let uid = level.as_ref().map(|level| level.metadata.uid.clone().unwrap_or_default());
        self.levels.rcu(|known| {
            let mut levels = (**known).clone();
            match &uid {
                Some(uid) => levels.insert(name.to_owned(), uid.clone()),
                None => levels.remove(name),
            };
            levels
        });
        let mut seats = self.seats.lock();
        match level.map(terms) {
            Some(terms) => seats.configure(name, terms),
            None => seats.remove(name),
        }
    }

    /// Sorts a request; `None` before there is any configuration.
    pub(crate) fn sort(&self, user: &User, request: &Attributes<'_>) -> Option<Sorted> {
        let schemas = self.schemas.load();
        let levels = self.levels.load();
        let fits = |schema: &&Arc<Schema>| {
            levels.contains_key(&schema.level) && schema.fits(user, request)
        };
        let schema = schemas
            .iter()
            .find(fits)
            .or_else(|| schemas.iter().find(|schema| schema.name == CATCH_ALL))?;
        let level_uid = levels.get(&schema.level).cloned().unwrap_or_default();
        Some(Sorted { schema: Arc::clone(schema), level_uid })
    }

    /// Waits for a seat.
    ///
    /// # Errors
    /// 429 if there is no place to wait, or the wait was too long.
    pub(crate) async fn seat(
        &self,
        sorted: &Sorted,
        user: &User,
        request: &Attributes<'_>,
    ) -> Result<Seat, ApiError> {
        let level = sorted.schema.level.clone();
        let seats = Arc::clone(&self.seats);
        let entry = seats.lock().enter(&level, sorted.schema.flow(user, request));
        let (ticket, told) = match entry {
            Entry::Run => return Ok(Seat { seats, level }),
            Entry::Refused(reason) => return Err(self.refuse(level, reason)),
            Entry::Wait(ticket, told) => (ticket, told),
        };
        let mut place =
            Place { seats: Arc::clone(&seats), level: level.clone(), ticket, seated: false };
        match tokio::time::timeout(QUEUE_WAIT, told).await {
            Ok(Ok(())) => {
                place.seated = true;
                Ok(Seat { seats, level })
            }
            Ok(Err(_)) | Err(_) => Err(self.refuse(level, "time-out")),
        }
    }

    fn refuse(&self, level: String, reason: &'static str) -> ApiError {
        *self.refused.lock().entry((level, reason)).or_default() += 1;
        let mut error =
            ApiError::new(429, "TooManyRequests", "Too many requests, please try again later.");
        error.retry_after_secs = Some(1);
        error
    }

    /// The counters in the Prometheus text form, under upstream's names.
    pub(crate) fn metrics(&self) -> String {
        use std::fmt::Write as _;
        let mut out = String::new();
        let counts = self.seats.lock().counts();
        let mut gauge = |name: &str, value: fn(&Count) -> usize| {
            let _infallible = writeln!(out, "# TYPE {name} gauge");
            for one in &counts {
                let (level, value) = (&one.level, value(one));
                let _infallible = writeln!(out, "{name}{{priority_level=\"{level}\"}} {value}");
            }
        };
        gauge("apiserver_flowcontrol_current_executing_requests", |one| one.running);
        gauge("apiserver_flowcontrol_current_inqueue_requests", |one| one.waiting);
        gauge("apiserver_flowcontrol_nominal_limit_seats", |one| one.nominal);
        out.push_str("# TYPE apiserver_flowcontrol_rejected_requests_total counter\n");
        for ((level, reason), count) in &*self.refused.lock() {
            let _infallible = writeln!(
                out,
                "apiserver_flowcontrol_rejected_requests_total{{priority_level=\"{level}\",reason=\"{reason}\"}} {count}"
            );
        }
        out
    }
}

impl Sorted {
    /// Says on an answer how its request was sorted.
    pub(crate) fn sign(&self, answer: &mut Answer) {
        for (name, uid) in [
            ("x-kubernetes-pf-flowschema-uid", &self.schema.uid),
            ("x-kubernetes-pf-prioritylevel-uid", &self.level_uid),
        ] {
            if let Ok(uid) = HeaderValue::from_str(uid) {
                answer.headers_mut().insert(name, uid);
            }
        }
    }
}

/// The answer to a request that was refused, in upstream's form.
pub(crate) fn too_many(error: &ApiError) -> Answer {
    let mut answer = answer::text(429, format!("{}\n", error.message));
    answer.headers_mut().insert(http::header::RETRY_AFTER, HeaderValue::from_static("1"));
    answer
}

/// What is stored was validated; what cannot be read counts as gone.
fn typed<T: serde::de::DeserializeOwned>(object: &Value) -> Option<T> {
    serde_json::from_value(object.clone()).ok()
}

fn count(number: Option<i32>, default: usize) -> usize {
    number.map_or(default, |number| usize::try_from(number).unwrap_or(0))
}

fn terms(level: PriorityLevelConfiguration) -> Terms {
    let spec = level.spec.unwrap_or_default();
    if spec.type_ == "Exempt" {
        return Terms::Exempt;
    }
    let limited = spec.limited.unwrap_or_default();
    let response = limited.limit_response.unwrap_or_default();
    let overflow = match response.queuing {
        Some(queuing) if response.type_ == "Queue" => Overflow::Queue {
            queues: count(queuing.queues, 64),
            hand: count(queuing.hand_size, 8),
            length: count(queuing.queue_length_limit, 50),
        },
        None if response.type_ == "Queue" => Overflow::Queue { queues: 64, hand: 8, length: 50 },
        Some(_) | None => Overflow::Reject,
    };
    Terms::Limited {
        shares: count(limited.nominal_concurrency_shares, 30),
        lendable_percent: count(limited.lendable_percent, 0),
        borrow_percent: limited.borrowing_limit_percent.map(|percent| count(Some(percent), 0)),
        overflow,
    }
}

#[cfg(test)]
mod tests;

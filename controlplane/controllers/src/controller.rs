//! What a controller is: which keys a change concerns, and a pure plan for one key.

use std::time::Duration;

use informer::{Action, Occurrence};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use objects::ObjectKey;

use crate::world::{Changed, World};

/// One controller. The loop in [`crate::run()`] calls it; it does no I/O itself.
pub trait Controller: Send + Sync + 'static {
    /// Name for logs and metrics, such as `deployment`.
    fn name(&self) -> &'static str;

    /// The component that the controller's Events name, such as `deployment-controller`.
    fn component(&self) -> &'static str;

    /// The keys whose plan may be different after a change. Called for every change of every
    /// view, so it has to be quick; naming a key too many is harmless.
    fn wakes(&self, world: &World, changed: &Changed) -> Vec<ObjectKey>;

    /// What to do now to bring a key closer to what its object asks for. Pure: it reads the views
    /// and nothing else. A plan may be one step of several: what it writes wakes the key again.
    fn plan(&self, world: &World, key: &ObjectKey, context: &Context) -> Plan;

    /// Most keys worked on at once. One for controllers that hand out something shared.
    fn workers(&self) -> usize {
        4
    }
}

/// What a plan may know beside the views.
#[derive(Debug, Clone)]
pub struct Context {
    /// The time.
    pub now: Timestamp,
    /// How carrying out the last plan for the key failed, if it did.
    pub failure: Option<Failure>,
}

impl Context {
    /// A context without an earlier failure.
    pub fn at(now: Timestamp) -> Self {
        Self { now, failure: None }
    }
}

/// An action that the server refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// `create`, `delete`, …
    pub verb: &'static str,
    /// HTTP status, 0 if there was no answer.
    pub code: u16,
    /// The server's message.
    pub message: String,
}

/// What to do for one key.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    /// Actions in order; the first failure ends the plan.
    pub steps: Vec<Step>,
    /// Events that depend on no action.
    pub events: Vec<Occurrence>,
    /// Plan again after this time even if nothing changes.
    pub again_after: Option<Duration>,
}

impl Plan {
    /// Nothing to do until something changes.
    pub fn nothing() -> Self {
        Self::default()
    }

    /// Actions without Events.
    pub fn of(actions: impl IntoIterator<Item = Action>) -> Self {
        Self { steps: actions.into_iter().map(Step::from).collect(), ..Self::default() }
    }

    /// Asks for another plan after `wait`; the earliest wish wins.
    pub fn again_after(&mut self, wait: Duration) {
        self.again_after = Some(self.again_after.map_or(wait, |known| known.min(wait)));
    }
}

/// An action, and the Event that tells of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// The action.
    pub action: Action,
    /// What to record about it.
    pub announcement: Option<Announcement>,
}

impl From<Action> for Step {
    fn from(action: Action) -> Self {
        Self { action, announcement: None }
    }
}

impl Step {
    /// An action that is told of.
    pub fn announced(action: Action, announcement: Announcement) -> Self {
        Self { action, announcement: Some(announcement) }
    }
}

/// The Events about an action. In `done`, `{name}` stands for the object's name, which the server
/// may have generated; in `failed`, `{error}` stands for the server's message.
#[derive(Debug, Clone, PartialEq)]
pub struct Announcement {
    /// The object the Event is about.
    pub regarding: ObjectReference,
    /// Reason and text of the Event after success.
    pub done: (&'static str, String),
    /// Reason and text of the Event after failure; none is recorded if `None`.
    pub failed: Option<(&'static str, String)>,
}

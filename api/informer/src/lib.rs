//! What every client of the API inside skeg shares: typed views fed by list and watch, a work
//! queue, the carrying out of planned actions, and the recording of events.
//!
//! It works over any [`kube::Client`], in the server's own process or over TLS. It decides nothing
//! about Kubernetes objects: that is done by the plans of its users.

pub mod action;
mod announce;
mod backoff;
mod decode;
mod discover;
mod events;
mod object;
mod queue;
mod reflect;
mod resource;
mod view;

pub use action::{
    Action, ActionError, Outcome, PatchType, Propagation, Verb, Written, carry_out, carry_out_one,
};
pub use announce::{Announcements, Announcer, Heard};
pub use backoff::Backoff;
pub use discover::{Discovered, ServedResource, discover};
pub use events::{EventRecorder, EventType, Occurrence, reference};
pub use object::{Object, Partial};
pub use queue::{Retry, WorkQueue};
pub use reflect::{reflect, reflect_metadata};
pub use resource::{ResourcePath, Source};
pub use view::{Change, Changes, Index, OWNER_UID, Progress, View, ViewWriter, by_owner_uid};

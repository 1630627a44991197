//! What every client of the API inside skeg shares: typed views fed by list and watch, a work
//! queue, the carrying out of planned actions, and the recording of events.
//!
//! It works over any [`kube::Client`], in the server's own process or over TLS. It decides nothing
//! about Kubernetes objects: that is done by the plans of its users.

mod backoff;
mod decode;
mod object;
mod reflect;
mod resource;
mod view;

pub use backoff::Backoff;
pub use object::{Object, Partial};
pub use reflect::{reflect, reflect_metadata};
pub use resource::{ResourcePath, Source};
pub use view::{Change, Changes, Index, OWNER_UID, Progress, View, ViewWriter, by_owner_uid};

//! Requests to an API server in this process, on a store in memory: no socket, no controllers.

mod audit;
mod crd;
mod crd_convert;
mod flow;
mod harness;
mod objects;
mod protobuf;
mod podsecurity;
mod restrictions;
mod webhooks;

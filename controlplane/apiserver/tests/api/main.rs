//! Requests to an API server in this process, on a store in memory: no socket, no controllers.

mod aggregation;
mod audit;
mod crd;
mod crd_convert;
mod etcd;
mod flow;
mod harness;
mod objects;
mod podsecurity;
mod protobuf;
mod quota;
mod restrictions;
mod webhooks;

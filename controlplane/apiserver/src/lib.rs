//! The API server: from a request to the store and back.
//!
//! `route` reads a request, `router` finds its handler, `verbs` and `subresources` handle it,
//! `pipeline` is the one way into the store. No kind is named outside `subresources`, `admission`
//! and `bootstrap`: what is special about a kind is in the `kinds` crate.

pub mod admission;
pub mod aggregation;
mod answer;
pub mod audit;
pub mod auth;
mod background;
pub mod body;
mod bootstrap;
mod call;
mod codec;
mod config;
mod crd;
mod discovery;
mod encode;
pub mod flow;
mod health;
pub mod identity;
mod metadata;
mod metrics;
mod negotiate;
mod openapi;
mod options;
mod ownership;
mod pipeline;
mod query;
pub mod route;
mod router;
mod select;
mod serve;
mod server;
mod subresources;
mod table;
mod verbs;
pub mod webhook;

pub use config::Config;
pub use identity::User;
pub use serve::ServeError;
pub use server::{ApiServer, Server, Service, StartError};

//! What can go wrong with Services.

use std::path::PathBuf;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum ServicesError {
    /// A file or mount operation failed.
    #[error("{operation} {path}")]
    Io {
        /// The operation in words.
        operation: &'static str,
        /// What it was done to.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// The kernel does not take the programs.
    #[error("load the BPF programs")]
    Load(#[source] Box<aya::EbpfError>),
    /// The object does not hold what this agent expects of it.
    #[error("the BPF object has no {what} {name}")]
    Missing {
        /// `map` or `program`.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// A program failed to load or attach.
    #[error("{operation} BPF program {name}")]
    Program {
        /// `load`, `attach` or `pin`.
        operation: &'static str,
        /// The program.
        name: String,
        /// The cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A map could not be read or written.
    #[error("{operation} BPF map {name}")]
    Map {
        /// `open`, `read`, `write` or `delete from`.
        operation: &'static str,
        /// The map.
        name: &'static str,
        /// The cause.
        #[source]
        source: Box<aya::maps::MapError>,
    },
    /// The sockets of a namespace cannot be seen or destroyed.
    #[error("destroy UDP sockets in {namespace}")]
    Sockets {
        /// The network namespace.
        namespace: PathBuf,
        /// The cause.
        #[source]
        source: Box<network::NetworkError>,
    },
    /// A map is full.
    #[error("BPF map {name} is full: raise the limit of {limit} and restart")]
    Full {
        /// The map.
        name: &'static str,
        /// The configuration value that sizes it.
        limit: &'static str,
    },
}

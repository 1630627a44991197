//! The store as a whole: archives made here, real overlay mounts, a real registry.

mod archives;
mod fixtures;
mod registry;
mod roots;

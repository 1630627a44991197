//! Tests on a real kernel, with the real binary and the real kubectl. Each makes a cluster of its
//! own and removes it; nextest runs them one at a time.

mod bad_input;
mod encryption;
mod nodes;
mod pods;
mod scenario;
mod services;
mod streams;

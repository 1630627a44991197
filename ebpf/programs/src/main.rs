//! The data path of Services: socket hooks of the node's cgroup, and tc programs on its uplinks.
//!
//! All decisions are the agent's; a program looks up and rewrites. What a lookup means is in the
//! crate `ebpf-maps`.
#![no_std]
#![no_main]

mod maps;
mod nat;
mod packet;
mod select;
mod socket;

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // The verifier proves that this is never reached; the language wants it to exist.
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

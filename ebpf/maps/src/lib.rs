//! Key and value layouts of the BPF maps, shared by the programs and the agent.
#![no_std]

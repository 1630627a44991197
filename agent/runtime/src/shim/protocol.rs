//! What the agent and a shim say to each other over the control socket.

use serde::{Deserialize, Serialize};

use crate::Exit;

/// From the agent. Each connection carries one conversation.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    /// Tell the state now and whenever it changes, until the connection ends.
    Watch,
    /// Send a signal to the first process.
    Signal { signal: i32 },
    /// Run a process. Without a terminal the packet carries stdin, stdout and stderr. The process
    /// lives no longer than the connection.
    Exec { args: Vec<String>, tty: bool },
    /// Join the first process's streams.
    Attach { stdin: bool },
    /// Rotate the log now.
    ReopenLog,
}

/// From the shim.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Reply {
    /// State: being made.
    Created,
    /// State: the program has been executed.
    Started { pid: i32, at_nanos: i128 },
    /// State: ended. `exit.json` says the same.
    Exited(Exit),
    /// Done as asked.
    Done,
    /// Not done.
    Refused { reason: String },
    /// The exec's program runs; with a terminal the packet carries its master side.
    ExecStarted,
    /// The exec has ended.
    ExecExited { code: i32 },
    /// Attached. The packet carries stdout, then stderr and stdin as far as they are there.
    Attached { stdin: bool, stderr: bool },
}

/// From a process that makes a container or an exec, to its shim.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Progress {
    /// The process exists and waits for its start; with a terminal the packet carries the master.
    Created { pid: i32 },
    /// The program has been executed.
    Started,
    /// It cannot be.
    Failed { reason: String },
}

//! Logs, terminals, and those attached to a container's streams.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};

use runtime::{ExecSpec, Runtime};

use crate::containers::wait_log;
use crate::node::{BOUND, Node};

/// Reads until `text` has come, or the end.
async fn read_until(fd: &OwnedFd, text: &'static str) -> String {
    let mut file = File::from(fd.try_clone().expect("another descriptor"));
    let reading = tokio::task::spawn_blocking(move || {
        let mut all = Vec::new();
        let mut buffer = [0; 1024];
        loop {
            match file.read(&mut buffer) {
                Ok(0) | Err(_) => break,
                Ok(size) => all.extend_from_slice(&buffer[..size]),
            }
            if String::from_utf8_lossy(&all).contains(text) {
                break;
            }
        }
        String::from_utf8_lossy(&all).into_owned()
    });
    tokio::time::timeout(BOUND, reading).await.expect("in time").expect("read")
}

fn write(fd: &OwnedFd, text: &str) {
    let mut file = File::from(fd.try_clone().expect("another descriptor"));
    file.write_all(text.as_bytes()).expect("written");
}

#[tokio::test]
async fn several_clients_are_attached_at_once() {
    let node = Node::new().await;
    node.runtime.create_sandbox(&node.sandbox("a")).await.expect("a sandbox");
    let mut spec = node.container(
        "a",
        "c",
        "echo up; while read line; do echo out:$line; echo err:$line >&2; done; exit 8",
    );
    spec.stdin = true;
    node.runtime.start_container(&spec).await.expect("started");
    wait_log(&node, &spec, "up").await;
    let first = node.runtime.attach(&spec.id, true).await.expect("attached");
    let second = node.runtime.attach(&spec.id, false).await.expect("attached");
    assert!(second.stdin.is_none(), "not asked for");
    write(first.stdin.as_ref().expect("stdin"), "hi\n");
    for client in [&first, &second] {
        let out = read_until(client.stdout.as_ref().expect("stdout"), "out:hi\n").await;
        assert_eq!(out, "out:hi\n");
        let err = read_until(client.stderr.as_ref().expect("stderr"), "err:hi\n").await;
        assert_eq!(err, "err:hi\n");
    }
    // The end of a client is not the end of the input.
    drop(first);
    let third = node.runtime.attach(&spec.id, true).await.expect("attached");
    write(third.stdin.as_ref().expect("stdin"), "again\n");
    read_until(third.stdout.as_ref().expect("stdout"), "out:again").await;
    assert!(node.log(&spec).contains("out:again"));
    node.runtime.remove_container(&spec.id).await.expect("removed");
    let rest = read_until(third.stdout.as_ref().expect("stdout"), "never").await;
    assert!(!rest.contains("never"), "the stream has ended");
}

#[tokio::test]
async fn stdin_once_ends_with_its_client() {
    let node = Node::new().await;
    node.runtime.create_sandbox(&node.sandbox("a")).await.expect("a sandbox");
    let mut spec = node.container("a", "c", "cat; echo end; exit 2");
    spec.stdin = true;
    spec.stdin_once = true;
    node.runtime.start_container(&spec).await.expect("started");
    let client = node.runtime.attach(&spec.id, true).await.expect("attached");
    write(client.stdin.as_ref().expect("stdin"), "text\n");
    drop(client.stdin);
    assert_eq!(node.exit(&spec.id).await.code, 2);
    assert_eq!(node.log(&spec), "text\nend\n");
}

#[tokio::test]
async fn a_container_with_a_terminal_can_be_resized() {
    let node = Node::new().await;
    node.runtime.create_sandbox(&node.sandbox("a")).await.expect("a sandbox");
    let mut spec = node.container("a", "c", "tty; while read line; do stty size; done");
    spec.tty = true;
    spec.stdin = true;
    node.runtime.start_container(&spec).await.expect("started");
    wait_log(&node, &spec, "/dev/").await;
    let client = node.runtime.attach(&spec.id, true).await.expect("attached");
    assert!(client.stderr.is_none(), "it is part of the terminal");
    let terminal = client.stdin.as_ref().expect("the terminal");
    resize(terminal, 33, 99);
    write(terminal, "\n");
    let shown = read_until(client.stdout.as_ref().expect("stdout"), "33 99").await;
    assert!(shown.contains("33 99"), "{shown:?}");
    assert!(node.log(&spec).contains("33 99"), "the log has it too");
}

#[tokio::test]
async fn an_exec_with_a_terminal_can_be_resized() {
    let node = Node::new().await;
    node.runtime.create_sandbox(&node.sandbox("a")).await.expect("a sandbox");
    let spec = node.container("a", "c", "while true; do usleep 10000; done");
    node.runtime.start_container(&spec).await.expect("started");
    let command = ExecSpec {
        args: ["/bin/sh", "-c", "read line; stty size; exit 6"].map(str::to_owned).to_vec(),
        tty: true,
        stdin: true,
    };
    let session = node.runtime.exec(&spec.id, &command).await.expect("an exec");
    let terminal = session.streams.stdin.as_ref().expect("the terminal");
    resize(terminal, 21, 81);
    write(terminal, "go\n");
    let shown = read_until(session.streams.stdout.as_ref().expect("stdout"), "21 81").await;
    assert!(shown.contains("21 81"), "{shown:?}");
    assert_eq!(session.exit.await.expect("an exit"), 6);
}

fn resize(terminal: &OwnedFd, rows: u16, columns: u16) {
    nix::ioctl_write_ptr_bad!(set_size, libc::TIOCSWINSZ, libc::winsize);
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    #[allow(unsafe_code, reason = "the terminal's size has no safe interface")]
    // SAFETY: the structure outlives the call.
    unsafe { set_size(terminal.as_raw_fd(), &raw const size) }.expect("resized");
}

#[tokio::test]
async fn logs_rotate_and_lose_nothing_that_is_kept() {
    let node = Node::new().await;
    node.runtime.create_sandbox(&node.sandbox("a")).await.expect("a sandbox");
    let mut spec = node.container(
        "a",
        "c",
        "i=0; while [ $i -lt 2000 ]; do echo line-$i; i=$((i+1)); done; exit 0",
    );
    spec.log_max_bytes = 30_000;
    spec.log_max_files = 20;
    let mut pieces = runtime::logs::read(
        spec.log_path.clone(),
        runtime::logs::Query { follow: true, ..runtime::logs::Query::default() },
        {
            let ended = tokio_util::sync::CancellationToken::new();
            let (token, runtime, id) = (ended.clone(), node.runtime.clone(), spec.id.clone());
            let mut changes = node.runtime.changes();
            tokio::spawn(async move {
                loop {
                    let seen = runtime.observe().await.expect("observed");
                    let exited = seen.iter().flat_map(|pod| &pod.containers).any(|one| {
                        one.spec.id == id && matches!(one.state, runtime::ContainerState::Exited(_))
                    });
                    if exited {
                        return token.cancel();
                    }
                    let _woken = changes.recv().await;
                }
            });
            ended
        },
    );
    node.runtime.start_container(&spec).await.expect("started");
    let mut text = Vec::new();
    let reading = async {
        while let Some(piece) = pieces.recv().await {
            text.extend_from_slice(&piece.expect("read"));
        }
    };
    tokio::time::timeout(BOUND, reading).await.expect("in time");
    let expected: String = (0..2000).map(|number| format!("line-{number}\n")).collect();
    assert_eq!(String::from_utf8_lossy(&text), expected);
    let files = std::fs::read_dir(node.folder.join("logs")).expect("logs").count();
    assert!(files > 1, "it was rotated");
}

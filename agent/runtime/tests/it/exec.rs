//! Processes in running containers.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;

use runtime::{ExecSpec, Runtime};

use crate::containers::wait_log;
use crate::node::Node;

async fn up(node: &Node) -> runtime::ContainerSpec {
    let spec = node.container("a", "c", "echo up; while true; do usleep 10000; done");
    node.runtime.create_sandbox(&node.sandbox("a")).await.expect("a sandbox");
    node.runtime.start_container(&spec).await.expect("started");
    wait_log(node, &spec, "up").await;
    spec
}

fn script(text: &str, tty: bool, stdin: bool) -> ExecSpec {
    ExecSpec { args: ["/bin/sh", "-c", text].map(str::to_string).to_vec(), tty, stdin }
}

async fn read(fd: OwnedFd) -> String {
    tokio::task::spawn_blocking(move || {
        let mut bytes = Vec::new();
        let mut buffer = [0; 4096];
        let mut file = std::fs::File::from(fd);
        // A terminal's master ends with EIO.
        while let Ok(count) = file.read(&mut buffer) {
            if count == 0 {
                break;
            }
            bytes.extend_from_slice(&buffer[..count]);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
    .await
    .expect("read")
}

#[tokio::test]
async fn streams_and_exit_code() {
    let node = Node::new().await;
    let spec = up(&node).await;
    let command =
        script("cat; echo err >&2; grep ^Seccomp: /proc/self/status; exit 42", false, true);
    let session = node.runtime.exec(&spec.id, &command).await.expect("an exec");
    let mut stdin = std::fs::File::from(session.streams.stdin.expect("stdin"));
    stdin.write_all(b"typed\n").expect("written");
    drop(stdin);
    let stdout = read(session.streams.stdout.expect("stdout")).await;
    let stderr = read(session.streams.stderr.expect("stderr")).await;
    assert_eq!(session.exit.await.expect("an exit"), 42);
    assert!(stdout.starts_with("typed\n") && stdout.contains("Seccomp:\t2"), "{stdout}");
    assert_eq!(stderr, "err\n");
}

#[tokio::test]
async fn a_terminal() {
    let node = Node::new().await;
    let spec = up(&node).await;
    let session =
        node.runtime.exec(&spec.id, &script("tty; echo done", true, false)).await.expect("an exec");
    let shown = read(session.streams.stdout.expect("the terminal")).await;
    assert_eq!(session.exit.await.expect("an exit"), 0);
    assert!(shown.contains("/dev/pts/") && shown.contains("done"), "{shown}");
}

#[tokio::test]
async fn a_missing_program_is_an_error_or_127() {
    let node = Node::new().await;
    let spec = up(&node).await;
    let command = ExecSpec { args: vec!["/absent".into()], tty: false, stdin: false };
    match node.runtime.exec(&spec.id, &command).await {
        Err(error) => assert!(error.to_string().contains("/absent"), "{error}"),
        Ok(session) => assert!([126, 127, 255].contains(&session.exit.await.expect("an exit"))),
    }
}

#[tokio::test]
async fn an_abandoned_process_is_killed_with_its_children() {
    let node = Node::new().await;
    let spec = up(&node).await;
    let command = script("sleep 1234 & sleep 1234", false, false);
    let session = node.runtime.exec(&spec.id, &command).await.expect("an exec");
    drop(session);
    let wait = async {
        loop {
            let session = node
                .runtime
                .exec(
                    &spec.id,
                    &script("grep -l 1234 /proc/[0-9]*/cmdline 2>/dev/null | wc -l", false, false),
                )
                .await
                .expect("an exec");
            let shown = read(session.streams.stdout.expect("stdout")).await;
            // The grep's own shell has the number in its arguments, and grep itself.
            if shown.trim().parse::<u32>().expect("a number") <= 2 {
                return;
            }
        }
    };
    tokio::time::timeout(crate::node::BOUND, wait).await.expect("the processes are gone");
}

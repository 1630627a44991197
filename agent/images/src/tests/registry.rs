//! Pulls from Debian's docker-registry, alone with us in a network namespace.

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use nix::sched::CloneFlags;
use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference as Remote};
use parking_lot::Mutex;

use super::fixtures::{Item, Made, Place, gzip, isolated, layer, text};
use crate::digest::Digest;
use crate::{Credentials, ImageError, Images as _, Progress};

const HOST: &str = "127.0.0.1:5000";

/// The user `pod` with the password `secret`.
const HTPASSWD: &str = "pod:$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n";

struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

async fn serve(place: &Place, protected: bool) -> Server {
    let up = Command::new("ip").args(["link", "set", "lo", "up"]).status().expect("ip");
    assert!(up.success());
    let auth = if protected {
        let path = place.write("htpasswd", HTPASSWD.as_bytes());
        format!("auth:\n  htpasswd:\n    realm: test\n    path: {}\n", path.display())
    } else {
        String::new()
    };
    let config = format!(
        "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: {HOST}\n{auth}",
        place.path("registry").display()
    );
    let config = place.write("registry.yml", config.as_bytes());
    let server = Command::new("docker-registry")
        .arg("serve")
        .arg(config)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("Debian's docker-registry is installed");
    let server = Server(server);
    for _ in 0..200 {
        if tokio::net::TcpStream::connect(HOST).await.is_ok() {
            return server;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the registry does not answer");
}

fn credentials(password: &str) -> Credentials {
    Credentials { username: "pod".into(), password: password.into() }
}

/// Pushes an image, for another architecture too if asked; returns what the name points to.
async fn push(made: &Made, name: &str, index: bool) -> Digest {
    // The store may not have been opened yet.
    _ = rustls::crypto::ring::default_provider().install_default();
    let client =
        Client::new(ClientConfig { protocol: ClientProtocol::Http, ..ClientConfig::default() });
    let remote: Remote = format!("{HOST}/{name}").parse().expect("reference");
    let auth = RegistryAuth::Basic("pod".into(), "secret".into());
    client.store_auth_if_needed(remote.resolve_registry(), &auth).await;
    client.auth(&remote, &auth, oci_client::RegistryOperation::Push).await.expect("auth");
    for blob in made.layers.iter().chain([&made.config]) {
        let digest = Digest::of(blob);
        client.push_blob(&remote, blob.clone(), digest.as_str()).await.expect("push blob");
    }
    let put = async |remote: &Remote, bytes: &[u8], kind: &str| {
        let kind = format!("application/vnd.oci.image.{kind}.v1+json").parse().expect("header");
        client.push_manifest_raw(remote, bytes.to_vec(), kind).await.expect("push manifest");
    };
    let manifest = made.manifest();
    let digest = Digest::of(&manifest);
    if !index {
        put(&remote, &manifest, "manifest").await;
        return digest;
    }
    put(&remote.clone_with_digest(digest.to_string()), &manifest, "manifest").await;
    let entry = |architecture: &str, digest: &Digest| {
        format!(
            r#"{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{digest}","size":{},
            "platform":{{"os":"linux","architecture":"{architecture}"}}}}"#,
            manifest.len()
        )
    };
    let host = crate::manifests::Platform::host().architecture;
    let index = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{}]}}"#,
        entry(&host, &digest)
    );
    put(&remote, index.as_bytes(), "index").await;
    Digest::of(index.as_bytes())
}

fn made() -> Made {
    // Two layers that do not compress to nothing.
    let noise: String =
        (0..40_000_u64).map(|n| Digest::of(&n.to_le_bytes()).hex()[..8].to_owned()).collect();
    let big = layer(&[Item::file("big", noise.leak())]);
    Made::new(&[big, layer(&[Item::file("hello", "world")])], gzip)
}

#[test]
fn pulls_by_tag_digest_and_index() {
    isolated(CloneFlags::CLONE_NEWNET, |place| async move {
        let _server = serve(&place, false).await;
        let made = made();
        let digest = push(&made, "team/app:1", false).await;
        let index = push(&made, "team/multi:1", true).await;
        let store = place.store().await;
        let image = store.pull(&format!("{HOST}/team/app:1"), &[]).await.expect("by tag");
        assert_eq!(image.id, made.id().to_string());
        assert_eq!(image.tags, [format!("{HOST}/team/app:1")]);
        assert_eq!(image.digests, [format!("{HOST}/team/app@{digest}")]);
        let by_digest = format!("{HOST}/team/app@{digest}");
        assert_eq!(store.find(&by_digest).await.expect("find").expect("there").id, image.id);
        store.pull(&by_digest, &[]).await.expect("by digest");
        let multi = store.pull(&format!("{HOST}/team/multi:1"), &[]).await.expect("by index");
        assert!(multi.digests.contains(&format!("{HOST}/team/multi@{index}")));
        let root = store.mount(&image.id, "c").await.expect("mount").rootfs;
        assert_eq!(text(&root, "hello"), "world");
    });
}

#[test]
fn failures_say_what_happened() {
    isolated(CloneFlags::CLONE_NEWNET, |place| async move {
        let server = serve(&place, false).await;
        let store = place.store().await;
        let pull = async |reference: &str| match store.pull(reference, &[]).await {
            Err(ImageError::Pull { reason, .. }) => reason,
            other => panic!("{other:?}"),
        };
        assert_eq!(pull(&format!("{HOST}/no/such:1")).await, "not found");
        drop(server);
        let refused = pull(&format!("{HOST}/team/app:1")).await;
        assert_eq!(
            refused,
            format!("cannot reach registry {HOST}: Connection refused (os error 111)")
        );
        let unreachable = pull("10.99.99.99:5000/team/app:1").await;
        assert!(unreachable.contains("Network is unreachable"), "{unreachable}");
        assert!(matches!(store.pull("UPPER", &[]).await, Err(ImageError::InvalidReference { .. })));
        assert_eq!(place.leftovers(), [""; 0]);
    });
}

#[test]
fn credentials_are_tried_in_order() {
    isolated(CloneFlags::CLONE_NEWNET, |place| async move {
        let _server = serve(&place, true).await;
        push(&made(), "team/app:1", false).await;
        let store = place.store().await;
        let reference = format!("{HOST}/team/app:1");
        for wrong in [vec![], vec![credentials("wrong")]] {
            let error = store.pull(&reference, &wrong).await.expect_err("refused").to_string();
            assert!(error.contains("refused access"), "{error}");
            assert!(!error.contains("wrong"), "no secrets in errors: {error}");
        }
        let several = [credentials("wrong"), credentials("secret")];
        store.pull(&reference, &several).await.expect("the second fits");
    });
}

#[test]
fn a_download_goes_on_where_it_stopped_unless_it_was_damaged() {
    isolated(CloneFlags::CLONE_NEWNET, |place| async move {
        let _server = serve(&place, false).await;
        let made = made();
        push(&made, "team/app:1", false).await;
        let big = made.layers[0].clone();
        let reference = format!("{HOST}/team/app:1");
        let half = big[..big.len() / 2].to_vec();
        let mut damaged = half.clone();
        damaged[1000] ^= 1;
        let mut longer = big.clone();
        longer.extend([0; 10]);
        for (case, part, expected) in [
            ("half", half, Some(big.len() as u64 / 2)),
            ("damaged", damaged, None),
            ("complete", big.clone(), None),
            ("too long", longer, None),
        ] {
            let store = place.store().await;
            let part_file = place.path("store/parts").join(Digest::of(&big).hex());
            std::fs::write(&part_file, part).expect("write");
            let seen = Arc::new(Mutex::new(Vec::new()));
            let progress = {
                let (seen, digest) = (Arc::clone(&seen), Digest::of(&big));
                Arc::new(move |progress: Progress| {
                    if let Progress::Downloaded(of, bytes) = progress
                        && of == digest
                    {
                        seen.lock().push(bytes);
                    }
                })
            };
            let image = store.pull_with_progress(&reference, &[], progress).await.expect(case);
            let seen = seen.lock().clone();
            if let Some(expected) = expected {
                assert!(seen[0] > expected, "{case}: starts at {}", seen[0]);
            }
            if case != "complete" {
                assert_eq!(seen.last(), Some(&(big.len() as u64)), "{case}");
            }
            assert!(!part_file.exists());
            store.remove(&image.id).await.expect("remove");
        }
    });
}

#[test]
fn pulls_of_the_same_image_share_the_work_and_damage_on_disk_is_repaired() {
    isolated(CloneFlags::CLONE_NEWNET, |place| async move {
        let _server = serve(&place, false).await;
        let made = made();
        push(&made, "team/app:1", false).await;
        let store = place.store().await;
        let reference = format!("{HOST}/team/app:1");
        let pulls = futures::future::join_all((0..8).map(|_| store.pull(&reference, &[]))).await;
        assert!(
            pulls.iter().all(|pull| pull.as_ref().is_ok_and(|i| i.id == made.id().to_string()))
        );
        store.remove(&reference).await.expect("remove");

        // A blob of the right size with the wrong bytes, as after a power cut.
        let blob = place.path("store/blobs").join(Digest::of(&made.layers[0]).hex());
        std::fs::write(&blob, vec![0; made.layers[0].len()]).expect("write");
        let first = store.pull(&reference, &[]).await.expect_err("damaged").to_string();
        assert!(first.contains("its content is damaged"), "{first}");
        store.pull(&reference, &[]).await.expect("fetched again");
    });
}

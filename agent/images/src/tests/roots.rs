//! What containers see: layers on top of each other, and roots that stay.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use nix::sched::CloneFlags;

use super::fixtures::{Item, Made, Place, archive, gzip, isolated, layer, text, zstd};
use crate::{Image, ImageError, ImageStore, Images as _, user};

fn base() -> Vec<u8> {
    layer(&[
        Item::dir("./", 0o755),
        Item::dir("bin", 0o755),
        Item::file("bin/app", "app").mode(0o4755).owner(7),
        Item::dir("tmp", 0o1777).owner(3),
        Item::dir("usr/lib", 0o755),
        Item::link("lib", "usr/lib"),
        Item::link("abs", "/usr/lib"),
        Item::file("usr/lib/one", "1").xattr("user.note", "hello"),
        Item::hard("usr/lib/same", "usr/lib/one"),
        Item::fifo("fifo"),
        Item::null("null"),
        Item::dir("etc", 0o755),
        Item::file("etc/passwd", "root:x:0:0::/root:\nweb:x:33:33::/var/www:\n"),
        Item::dir("gone/deep", 0o755),
        Item::file("gone/deep/file", "x"),
        Item::dir("opaque/deep", 0o700),
        Item::file("opaque/old", "old"),
        Item::file("opaque/deep/old", "old"),
        Item::file("file-to-dir", "x"),
        Item::dir("dir-to-file/deep", 0o755),
        Item::file("removed", "x"),
    ])
}

fn changes() -> Vec<u8> {
    layer(&[
        Item::file("lib/two", "2"),
        Item::file("abs/three", "3"),
        Item::file("tmp/made", "x"),
        Item::file(".wh.removed", ""),
        Item::file(".wh.gone", ""),
        Item::file(".wh.never-there", ""),
        Item::file("opaque/new", "new"),
        Item::file("opaque/.wh..wh..opq", ""),
        Item::file("opaque/deep/new", "new"),
        Item::hard("bin/app2", "bin/app"),
        Item::dir("file-to-dir", 0o755),
        Item::file("file-to-dir/inside", "x"),
        Item::file("dir-to-file", "now a file"),
        Item::file("made/on/the/way", "x"),
        Item::dir("xattr", 0o755).xattr("trusted.overlay.opaque", "y"),
    ])
}

fn image(pack: fn(&[u8]) -> Vec<u8>) -> Made {
    Made::new(&[base(), changes(), layer(&[])], pack)
}

async fn imported(place: &Place, store: &ImageStore, image: &Made, tag: &str) -> Image {
    let file = place.write("image.tar", &archive(&image.saved(tag)));
    store.import(&file).await.expect("import").remove(0)
}

fn check(root: &Path) {
    let look = |path: &str| {
        fs::symlink_metadata(root.join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
    };
    let missing = |path: &str| assert!(fs::symlink_metadata(root.join(path)).is_err(), "{path}");
    assert_eq!(text(root, "usr/lib/two"), "2", "through a link of a lower layer");
    assert_eq!(text(root, "usr/lib/three"), "3", "an absolute link stays inside");
    assert!(look("lib").is_symlink());
    assert_eq!(look("tmp").permissions().mode() & 0o7777, 0o1777, "of an implied folder");
    assert_eq!(look("tmp").uid(), 3);
    let app = look("bin/app");
    assert_eq!(
        (app.permissions().mode() & 0o7777, app.uid(), app.mtime()),
        (0o4755, 7, 1_000_000_000)
    );
    assert_eq!(text(root, "bin/app2"), "app", "a hard link into a lower layer");
    assert_eq!(look("usr/lib/one").ino(), look("usr/lib/same").ino());
    assert_eq!(
        xattr::get(root.join("usr/lib/one"), "user.note").expect("read"),
        Some(b"hello".to_vec())
    );
    assert!(look("fifo").file_type().is_fifo());
    assert!(look("null").file_type().is_char_device());
    assert_eq!(look("null").rdev(), nix::sys::stat::makedev(1, 3));
    missing("removed");
    missing("gone");
    missing("opaque/old");
    missing("opaque/deep/old");
    assert_eq!(text(root, "opaque/new"), "new", "brought by the layer that made it opaque");
    assert_eq!(text(root, "opaque/deep/new"), "new");
    assert_eq!(look("opaque/deep").permissions().mode() & 0o7777, 0o755, "not the hidden one's");
    assert_eq!(text(root, "file-to-dir/inside"), "x");
    assert_eq!(text(root, "dir-to-file"), "now a file");
    assert_eq!(look("made/on").permissions().mode() & 0o7777, 0o755);
    assert_eq!(xattr::get(root.join("xattr"), "trusted.overlay.opaque").expect("read"), None);
    let web = user::resolve(root, "web").expect("from /etc/passwd");
    assert_eq!((web.uid, &*web.home), (33, "/var/www"));
}

#[test]
fn layers_add_up_as_the_specification_says() {
    isolated(CloneFlags::empty(), |place| async move {
        let store = place.store().await;
        let plain = |bytes: &[u8]| bytes.to_vec();
        for (number, pack) in [plain as fn(&[u8]) -> Vec<u8>, gzip, zstd].into_iter().enumerate() {
            let image = imported(&place, &store, &image(pack), "app:1").await;
            let container = format!("c{number}");
            let root = store.mount(&image.id, &container).await.expect("mount").rootfs;
            check(&root);
            assert_eq!(image.config.cmd, ["/bin/app"]);
        }
        assert_eq!(store.list().await.expect("list").len(), 1, "the same image, packed otherwise");
    });
}

#[test]
fn containers_share_layers_and_keep_what_they_write() {
    isolated(CloneFlags::empty(), |place| async move {
        let store = place.store().await;
        let image = imported(&place, &store, &image(gzip), "app:1").await;
        let one = store.mount(&image.id, "one").await.expect("mount").rootfs;
        let two = store.mount("app:1", "two").await.expect("mount").rootfs;
        fs::write(one.join("etc/passwd"), "changed").expect("write");
        fs::remove_file(one.join("bin/app")).expect("remove");
        assert_eq!(text(&two, "bin/app"), "app");
        let again = store.mount(&image.id, "one").await.expect("the same again").rootfs;
        assert_eq!((&again, text(&again, "etc/passwd").as_str()), (&one, "changed"));

        // As after a reboot: nothing is mounted, a new process opens the folder.
        nix::mount::umount(&one).expect("unmount");
        drop(store);
        let store = place.store().await;
        let again = store.mount(&image.id, "one").await.expect("adopt").rootfs;
        assert_eq!(text(&again, "etc/passwd"), "changed");
        assert!(!again.join("bin/app").exists());

        // The image goes, its containers stay, even through another restart.
        store.remove(&image.id).await.expect("remove");
        assert!(store.list().await.expect("list").is_empty());
        let again = store.mount(&image.id, "one").await.expect("without its image").rootfs;
        assert_eq!(text(&again, "usr/lib/two"), "2");
        assert!(matches!(
            store.mount(&image.id, "three").await,
            Err(ImageError::NotPresent { .. })
        ));
        for container in ["one", "two", "two", "never-there"] {
            store.unmount(container).await.expect("unmount");
        }
        assert_eq!(place.leftovers(), [""; 0], "the last container took the layers along");
        let bad = store.mount(&image.id, "../one").await;
        assert!(matches!(bad, Err(ImageError::Broken { .. })));
    });
}

#[test]
fn images_with_a_common_base_share_its_layers() {
    isolated(CloneFlags::empty(), |place| async move {
        let store = place.store().await;
        let first = Made::new(&[base(), layer(&[Item::file("a", "a")])], gzip);
        let second = Made::new(&[base(), layer(&[Item::file("b", "b")])], gzip);
        let first = imported(&place, &store, &first, "app:1").await;
        let second = imported(&place, &store, &second, "app:1").await;
        let layers = || crate::content::names(&place.path("store/layers")).expect("list").len();
        assert_eq!(layers(), 3);
        let found = store.find("docker.io/library/app:1").await.expect("find").expect("there");
        assert_eq!(found.id, second.id, "the tag moved");
        let by_id = store.find(&first.id).await.expect("find").expect("still there");
        assert_eq!(by_id.tags, [""; 0]);
        let short = &second.id["sha256:".len()..][..12];
        assert_eq!(store.find(short).await.expect("find").expect("by a short id").id, second.id);
        store.remove("app:1").await.expect("remove");
        assert_eq!(layers(), 2);
        let root = store.mount(&first.id, "c").await.expect("mount").rootfs;
        assert_eq!(text(&root, "a"), "a");
        let again = store.remove("app:1").await;
        assert!(matches!(again, Err(ImageError::NotPresent { .. })));
    });
}

#[test]
fn an_image_whose_layer_was_lost_is_forgotten() {
    isolated(CloneFlags::empty(), |place| async move {
        let store = place.store().await;
        let made = image(gzip);
        let image = imported(&place, &store, &made, "app:1").await;
        let layers = place.path("store/layers");
        let lost = crate::content::names(&layers).expect("list").remove(0);
        fs::remove_file(layers.join(lost).join("layer.json")).expect("remove");
        drop(store);
        let store = place.store().await;
        assert_eq!(store.find(&image.id).await.expect("find"), None);
        let image = imported(&place, &store, &made, "app:1").await;
        check(&store.mount(&image.id, "c").await.expect("mount").rootfs);
    });
}

#[test]
fn as_many_layers_as_allowed_can_be_mounted() {
    isolated(CloneFlags::empty(), |place| async move {
        let store = place.store().await;
        let numbers: Vec<&'static str> =
            (0..crate::manifests::LAYERS_LIMIT).map(|n| &*n.to_string().leak()).collect();
        let plain: Vec<Vec<u8>> = numbers.iter().map(|n| layer(&[Item::file("n", n)])).collect();
        let image = imported(&place, &store, &Made::new(&plain, gzip), "deep:1").await;
        let root = store.mount(&image.id, &"c".repeat(64)).await.expect("mount").rootfs;
        assert_eq!(text(&root, "n"), "127");
    });
}

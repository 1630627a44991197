//! Archives of all kinds, whole and broken.

use std::collections::BTreeMap;

use nix::sched::CloneFlags;
use tar::{Builder, EntryType, Header};

use super::fixtures::{Item, Made, archive, gzip, isolated, layer, text, zstd};
use crate::digest::Digest;
use crate::{ImageError, Images as _};

fn small() -> Made {
    Made::new(&[layer(&[Item::file("hello", "world")]), layer(&[Item::file("more", "x")])], gzip)
}

#[test]
fn every_form_of_archive_is_read() {
    isolated(CloneFlags::empty(), |place| async move {
        let store = place.store().await;
        let made = small();
        let both = {
            let mut files = made.layout("7");
            let blob = |bytes: &[u8]| format!("blobs/sha256/{}", Digest::of(bytes).hex());
            let saved = format!(
                r#"[{{"Config":"{}","RepoTags":["both:7"],"Layers":["{}","{}"]}}]"#,
                blob(&made.config),
                blob(&made.layers[0]),
                blob(&made.layers[1])
            );
            files.insert("manifest.json".into(), saved.into());
            archive(&files)
        };
        let cases = [
            ("saved", archive(&made.saved("saved:1")), "docker.io/library/saved:1"),
            ("saved.gz", gzip(&archive(&made.saved("saved:2"))), "docker.io/library/saved:2"),
            ("saved.zst", zstd(&archive(&made.saved("a.io/b/c"))), "a.io/b/c:latest"),
            ("layout", archive(&made.layout("a.io/layout:1")), "a.io/layout:1"),
            ("both", both, "docker.io/library/both:7"),
        ];
        for (name, bytes, tag) in cases {
            let images = store.import(&place.write(name, &bytes)).await.expect(name);
            assert_eq!(images.len(), 1, "{name}");
            assert!(images[0].tags.contains(&tag.to_owned()), "{name}: {:?}", images[0].tags);
            assert_eq!(images[0].id, made.id().to_string());
        }
        let tagless = store.import(&place.write("t", &archive(&made.layout("7")))).await;
        assert_eq!(tagless.expect("a bare tag is no name")[0].tags.len(), 5);
        assert_eq!(store.list().await.expect("list")[0].size_bytes, 6);
    });
}

#[test]
fn a_layer_written_once_may_be_linked_to() {
    isolated(CloneFlags::empty(), |place| async move {
        let store = place.store().await;
        let plain = layer(&[Item::file("a", "a")]);
        let made = Made::new(&[plain.clone(), plain], <[u8]>::to_vec);
        let mut files = made.saved("app:1");
        files.remove("layer-1/layer.tar");
        let mut tar = Builder::new(archive(&files)[..].to_vec());
        // Before the end marker, which is 1,024 bytes of zeros.
        let end = tar.get_ref().len() - 1024;
        tar.get_mut().truncate(end);
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Symlink);
        header.set_size(0);
        tar.append_link(&mut header, "layer-1/layer.tar", "../layer-0/layer.tar").expect("memory");
        let file = place.write("image.tar", &tar.into_inner().expect("memory"));
        store.import(&file).await.expect("import");
    });
}

#[test]
fn an_exported_image_is_the_same_when_imported() {
    isolated(CloneFlags::empty(), |place| async move {
        let store = place.store().await;
        let file = place.write("image.tar", &archive(&small().layout("a.io/app:1")));
        let image = store.import(&file).await.expect("import").remove(0);
        let out = place.path("out.tar");
        store.export("a.io/app:1", &out).await.expect("export");
        store.remove(&image.id).await.expect("remove");
        assert_eq!(place.leftovers(), [""; 0]);
        assert_eq!(store.import(&out).await.expect("import again"), std::slice::from_ref(&image));
        let root = store.mount(&image.id, "c").await.expect("mount").rootfs;
        assert_eq!(text(&root, "hello"), "world");
        let missing = store.export("a.io/other:1", &out).await;
        assert!(matches!(missing, Err(ImageError::NotPresent { .. })));
    });
}

fn without(mut files: BTreeMap<String, Vec<u8>>, name: &str) -> Vec<u8> {
    let name = files.keys().find(|key| key.contains(name)).expect("there").clone();
    files.remove(&name);
    archive(&files)
}

fn layers(items: &[Item]) -> Vec<u8> {
    archive(&Made::new(&[layer(&[Item::file("x", "x")]), layer(items)], gzip).saved("app:1"))
}

#[test]
fn a_broken_archive_is_refused_and_changes_nothing() {
    isolated(CloneFlags::empty(), |place| async move {
        let store = place.store().await;
        let made = small();
        let whole = archive(&made.saved("app:1"));
        let mut flipped = archive(&made.layout("app:1"));
        let at = flipped.windows(4).position(|w| w == [0x1f, 0x8b, 8, 0]).expect("a layer") + 40;
        flipped[at] ^= 1;
        let mut other = small();
        other.layers[1] = gzip(&layer(&[Item::file("more", "y")]));
        let mut fewer = small();
        fewer.layers.pop();
        let cases: Vec<(&str, Vec<u8>, &str)> = vec![
            ("empty", Vec::new(), "truncated or not an image archive"),
            ("text", b"this is not an archive, but it is longer than one block. ".repeat(20), ""),
            ("half", whole[..whole.len() / 2].to_vec(), ""),
            ("cut gzip", gzip(&whole)[..200].to_vec(), ""),
            ("no layer", without(made.saved("app:1"), "layer-1"), "layer-1/layer.tar is missing"),
            ("no config", without(made.layout("app:1"), made.id().hex()), "is missing"),
            ("flipped bit", flipped, "is damaged"),
            ("other layer", archive(&other.saved("app:1")), "the config says"),
            (
                "fewer layers",
                archive(&fewer.saved("app:1")),
                "1 layers in the manifest, 2 in the config",
            ),
            ("bad name", archive(&made.saved("UPPER:1")), "repository name must be lowercase"),
            ("escape", layers(&[Item::file("../../escaped", "x")]), "leads out of the image"),
            (
                "link escape",
                layers(&[Item::hard("a", "../../../etc/passwd")]),
                "leads out of the image",
            ),
            (
                "lost link",
                layers(&[Item::hard("a", "nothing")]),
                "links to nothing, which is missing",
            ),
            ("whiteout", layers(&[Item::file(".wh...", "")]), "a whiteout of nothing"),
        ];
        for (case, bytes, expected) in cases {
            let error = store.import(&place.write("image.tar", &bytes)).await.expect_err(case);
            assert!(matches!(error, ImageError::Broken { .. }), "{case}: {error:?}");
            assert!(error.to_string().contains(expected), "{case}: {error}");
            assert_eq!(place.leftovers(), [""; 0], "{case}");
        }
        assert!(!place.path("escaped").exists());
        let missing = store.import(&place.path("no such file")).await.expect_err("missing");
        assert!(missing.to_string().contains("no such file"), "{missing}");
        store.import(&place.write("image.tar", &whole)).await.expect("the whole one is fine");
    });
}

#[test]
fn links_in_a_layer_cannot_write_outside() {
    isolated(CloneFlags::empty(), |place| async move {
        let store = place.store().await;
        let outside = place.path("outside");
        std::fs::create_dir(&outside).expect("create");
        let target: &'static str = outside.to_str().expect("text").to_owned().leak();
        let items = [
            Item::link("up", "../../../../../../../../../../../.."),
            Item::link("direct", target),
            Item::file("direct/file", "x"),
            Item::file("up/file", "x"),
            Item::link("last", "direct/passwd"),
            Item::file("last", "x"),
        ];
        store.import(&place.write("image.tar", &layers(&items))).await.expect("contained");
        assert_eq!(crate::content::names(&outside).expect("list"), [""; 0]);
        assert!(!std::path::Path::new("/file").exists());
        let root = store.mount("app:1", "c").await.expect("mount").rootfs;
        assert_eq!(text(&root, "file"), "x");
        assert_eq!(text(&root, "last"), "x");
        let inside = format!("{}/file", target.trim_start_matches('/'));
        assert_eq!(text(&root, &inside), "x", "absolute links start at the image's root");
    });
}

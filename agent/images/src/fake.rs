//! An image store without images, for tests of those who use one.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use futures::FutureExt as _;
use futures::future::{BoxFuture, ready};
use parking_lot::Mutex;

use crate::digest::Digest;
use crate::references::Reference;
use crate::{Credentials, Image, ImageConfig, ImageError, Images, Snapshot};

/// What a [`FakeImages`] holds; tests look at it and change it.
#[derive(Debug, Default)]
pub struct State {
    /// Present images by their tag.
    pub present: BTreeMap<String, Image>,
    /// What the registries have, by tag.
    pub remote: BTreeMap<String, ImageConfig>,
    /// Tags whose pull fails, with the reason.
    pub failing: BTreeMap<String, String>,
    /// Every pull, in order.
    pub pulls: Vec<String>,
    /// Mounted containers and the images they were made from.
    pub mounted: BTreeMap<String, String>,
    /// Capacity and free bytes of the disk.
    pub disk_bytes: (u64, u64),
}

/// Images in memory. A pull takes no time and needs no credentials.
#[derive(Debug, Default)]
pub struct FakeImages {
    state: Mutex<State>,
    root: PathBuf,
}

impl FakeImages {
    /// Says that roots are below `root`, without making anything there.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        let state = State { disk_bytes: (100 << 30, 90 << 30), ..State::default() };
        Self { state: Mutex::new(state), root: root.into() }
    }

    /// Looks at, or changes, what there is.
    pub fn with<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.state.lock())
    }

    /// Puts an image into the registries.
    ///
    /// # Panics
    /// If the reference is not one.
    pub fn publish(&self, reference: &str, config: ImageConfig) {
        self.state.lock().remote.insert(tag(reference).expect("a valid reference"), config);
    }
}

fn tag(reference: &str) -> Result<String, ImageError> {
    Ok(reference.parse::<Reference>()?.to_string())
}

impl State {
    fn find(&self, reference: &str) -> Result<Option<Image>, ImageError> {
        if let Some(image) = self.present.values().find(|image| image.id == reference) {
            return Ok(Some(image.clone()));
        }
        Ok(self.present.get(&tag(reference)?).cloned())
    }

    fn pull(&mut self, reference: &str) -> Result<Image, ImageError> {
        let tag = tag(reference)?;
        self.pulls.push(tag.clone());
        let failed =
            |reason: &str| ImageError::Pull { reference: tag.clone(), reason: reason.into() };
        if let Some(reason) = self.failing.get(&tag) {
            return Err(failed(reason));
        }
        let config = self.remote.get(&tag).ok_or_else(|| failed("not found"))?.clone();
        let id = Digest::of(tag.as_bytes());
        let name = tag.rsplit_once(':').map_or(&*tag, |(name, _)| name);
        let image = Image {
            id: id.to_string(),
            digests: vec![format!("{name}@{id}")],
            tags: vec![tag.clone()],
            size_bytes: 1 << 20,
            config,
            pinned: false,
        };
        self.present.insert(tag, image.clone());
        Ok(image)
    }

    fn remove(&mut self, reference: &str) -> Result<(), ImageError> {
        let Some(image) = self.find(reference)? else {
            return Err(ImageError::NotPresent { reference: reference.to_owned() });
        };
        let ids: BTreeSet<String> = [image.id].into();
        self.present.retain(|_, image| !ids.contains(&image.id));
        Ok(())
    }
}

impl Images for FakeImages {
    fn find<'a>(&'a self, reference: &'a str) -> BoxFuture<'a, Result<Option<Image>, ImageError>> {
        ready(self.state.lock().find(reference)).boxed()
    }

    fn pull<'a>(
        &'a self,
        reference: &'a str,
        _: &'a [Credentials],
    ) -> BoxFuture<'a, Result<Image, ImageError>> {
        ready(self.state.lock().pull(reference)).boxed()
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<Image>, ImageError>> {
        ready(Ok(self.state.lock().present.values().cloned().collect())).boxed()
    }

    fn remove<'a>(&'a self, reference: &'a str) -> BoxFuture<'a, Result<(), ImageError>> {
        ready(self.state.lock().remove(reference)).boxed()
    }

    fn mount<'a>(
        &'a self,
        image_id: &'a str,
        container_id: &'a str,
    ) -> BoxFuture<'a, Result<Snapshot, ImageError>> {
        let mut state = self.state.lock();
        let result = match state.find(image_id) {
            Ok(Some(image)) => {
                state.mounted.insert(container_id.to_owned(), image.id);
                Ok(Snapshot { rootfs: self.root.join(container_id) })
            }
            Ok(None) => Err(ImageError::NotPresent { reference: image_id.to_owned() }),
            Err(error) => Err(error),
        };
        ready(result).boxed()
    }

    fn unmount<'a>(&'a self, container_id: &'a str) -> BoxFuture<'a, Result<(), ImageError>> {
        self.state.lock().mounted.remove(container_id);
        ready(Ok(())).boxed()
    }

    fn disk_bytes(&self) -> Result<(u64, u64), ImageError> {
        Ok(self.state.lock().disk_bytes)
    }
}

//! Which images to remove when the disk fills: pure plan, and the few steps that carry it out.
//!
//! As the kubelet does it: when usage is above the high threshold, images that no container uses
//! are removed, longest unused first, until usage is at the low threshold.

use std::collections::{BTreeMap, BTreeSet};

use crate::{ImageError, Images};

/// When to collect and how far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thresholds {
    /// Collect from this usage of the file system on.
    pub high_percent: u8,
    /// Stop at this usage.
    pub low_percent: u8,
    /// Never remove an image that was first seen so recently: its pod may be about to start.
    pub min_age_secs: u64,
    /// Remove images unused for so long, whatever the usage; 0 is never.
    pub max_unused_secs: u64,
}

impl Default for Thresholds {
    /// The kubelet's own: 85 %, 80 %, two minutes, never.
    fn default() -> Self {
        Self { high_percent: 85, low_percent: 80, min_age_secs: 120, max_unused_secs: 0 }
    }
}

/// An image as the collector sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The image's id.
    pub id: String,
    /// What removing it should free.
    pub size_bytes: u64,
    /// A container uses it.
    pub in_use: bool,
    /// Never to be removed.
    pub pinned: bool,
    /// When it was first seen, seconds since 1970.
    pub first_seen_secs: u64,
    /// When a container last used it; when it was first seen if none did.
    pub last_used_secs: u64,
}

/// What to do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Ids to remove, in this order.
    pub remove: Vec<String>,
    /// Bytes wanted beyond what removing all of these frees: the disk is full of something else.
    pub missing_bytes: u64,
}

/// Decides.
pub fn plan(
    candidates: &[Candidate],
    (capacity_bytes, available_bytes): (u64, u64),
    thresholds: Thresholds,
    now_secs: u64,
) -> Plan {
    let used_percent = 100 - percent(available_bytes, capacity_bytes);
    let wanted = if capacity_bytes > 0 && used_percent >= u64::from(thresholds.high_percent) {
        let keep_free = 100 - u64::from(thresholds.low_percent.min(100));
        (capacity_bytes / 100).saturating_mul(keep_free).saturating_sub(available_bytes)
    } else {
        0
    };
    let since = |secs: u64| now_secs.saturating_sub(secs);
    let mut free: Vec<&Candidate> = candidates
        .iter()
        .filter(|image| !image.in_use && !image.pinned)
        .filter(|image| since(image.first_seen_secs) >= thresholds.min_age_secs)
        .collect();
    free.sort_by_key(|image| (image.last_used_secs, image.first_seen_secs, &image.id));
    let mut plan = Plan { remove: Vec::new(), missing_bytes: wanted };
    for image in free {
        let old = thresholds.max_unused_secs > 0
            && since(image.last_used_secs) > thresholds.max_unused_secs;
        if old || plan.missing_bytes > 0 {
            plan.remove.push(image.id.clone());
            plan.missing_bytes = plan.missing_bytes.saturating_sub(image.size_bytes);
        }
    }
    plan
}

fn percent(part: u64, whole: u64) -> u64 {
    let percent = u128::from(part) * 100 / u128::from(whole.max(1));
    u64::try_from(percent).unwrap_or(100).min(100)
}

/// Remembers since when images are there and when they were last used. Lost at a restart, which
/// only makes images look younger.
#[derive(Debug, Clone, Default)]
pub struct Usage(BTreeMap<String, (u64, u64)>);

impl Usage {
    /// Takes a look at what is there and what is used now.
    pub fn observe<'a>(
        &mut self,
        present: impl IntoIterator<Item = &'a str>,
        in_use: &BTreeSet<String>,
        now_secs: u64,
    ) {
        let mut seen = BTreeMap::new();
        for id in present {
            let (first, mut last) = self.0.get(id).copied().unwrap_or((now_secs, now_secs));
            if in_use.contains(id) {
                last = now_secs;
            }
            seen.insert(id.to_owned(), (first, last));
        }
        self.0 = seen;
    }
}

/// Looks, decides, removes. `in_use` holds the image ids of all containers, running or not. Returns
/// the plan as far as it was carried out.
///
/// # Errors
/// What [`Images`] says; an image that is gone already is none.
pub async fn collect(
    images: &dyn Images,
    usage: &mut Usage,
    in_use: &BTreeSet<String>,
    thresholds: Thresholds,
    now_secs: u64,
) -> Result<Plan, ImageError> {
    let present = images.list().await?;
    usage.observe(present.iter().map(|image| &*image.id), in_use, now_secs);
    let candidates: Vec<Candidate> = present
        .into_iter()
        .map(|image| {
            let (first, last) = usage.0.get(&image.id).copied().unwrap_or((now_secs, now_secs));
            Candidate {
                in_use: in_use.contains(&image.id),
                pinned: image.pinned,
                size_bytes: image.size_bytes,
                id: image.id,
                first_seen_secs: first,
                last_used_secs: last,
            }
        })
        .collect();
    let plan = plan(&candidates, images.disk_bytes()?, thresholds, now_secs);
    for id in &plan.remove {
        match images.remove(id).await {
            Ok(()) | Err(ImageError::NotPresent { .. }) => {
                tracing::info!(image = %id, "removed an unused image");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(plan)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(id: &str, size_bytes: u64, last_used_secs: u64) -> Candidate {
        Candidate {
            id: id.into(),
            size_bytes,
            in_use: false,
            pinned: false,
            first_seen_secs: 0,
            last_used_secs,
        }
    }

    fn removed(candidates: &[Candidate], available: u64) -> (Vec<String>, u64) {
        let plan = plan(candidates, (1000, available), Thresholds::default(), 10_000);
        (plan.remove, plan.missing_bytes)
    }

    #[test]
    fn the_longest_unused_go_first_until_usage_is_low() {
        let images = [image("a", 30, 300), image("b", 30, 100), image("c", 30, 200)];
        assert_eq!(removed(&images, 160), (vec![], 0), "84 % is below the threshold");
        assert_eq!(removed(&images, 150), (vec!["b".into(), "c".into()], 0));
        assert_eq!(removed(&images, 100), (vec!["b".into(), "c".into(), "a".into()], 10));
    }

    #[test]
    fn images_in_use_pinned_or_new_stay() {
        let mut images = [image("used", 500, 1), image("pinned", 500, 2), image("new", 500, 3)];
        images[0].in_use = true;
        images[1].pinned = true;
        images[2].first_seen_secs = 9_900;
        assert_eq!(removed(&images, 0), (vec![], 200));
        images[2].first_seen_secs = 9_880;
        assert_eq!(removed(&images, 0), (vec!["new".into()], 0));
    }

    #[test]
    fn old_images_go_even_if_there_is_room() {
        let thresholds = Thresholds { max_unused_secs: 5_000, ..Thresholds::default() };
        let images = [image("old", 1, 4_000), image("recent", 1, 5_000)];
        let plan = plan(&images, (1000, 900), thresholds, 10_000);
        assert_eq!(plan.remove, ["old"]);
    }

    #[test]
    fn a_disk_without_a_size_is_not_full() {
        let plan = plan(&[image("a", 1, 1)], (0, 0), Thresholds::default(), 10_000);
        assert_eq!(plan, Plan::default());
    }

    #[cfg(feature = "test-support")]
    #[tokio::test]
    async fn collecting_spares_what_containers_use() {
        let images = crate::fake::FakeImages::new("/none");
        for name in ["a", "b", "c"] {
            images.publish(name, crate::ImageConfig::default());
            images.pull(name, &[]).await.expect("pull");
        }
        let id = |image: crate::Image| image.id;
        let used = id(images.find("b").await.expect("find").expect("pulled"));
        let in_use = BTreeSet::from([used.clone()]);
        let mut usage = Usage::default();
        let mut at = async |now, disk| {
            images.with(|state| state.disk_bytes = disk);
            collect(&images, &mut usage, &in_use, Thresholds::default(), now)
                .await
                .expect("collect")
        };
        assert_eq!(at(1000, (100 << 20, 5 << 20)).await.remove, [""; 0], "seen just now");
        assert_eq!(at(2000, (100 << 20, 50 << 20)).await.remove, [""; 0], "there is room");
        let plan = at(2000, (100 << 20, 5 << 20)).await;
        assert_eq!((plan.remove.len(), plan.missing_bytes), (2, 13 << 20));
        let left = images.list().await.expect("list");
        assert_eq!(left.into_iter().map(id).collect::<Vec<_>>(), [used]);
    }
}

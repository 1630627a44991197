//! Which part of the old object a part of the new one continues.

use serde_json::Value;

use super::{ListType, Node};

/// The old value at the place of a new one.
#[derive(Debug, Clone, Copy)]
pub struct Correlated<'a> {
    /// The new value.
    pub new: &'a Value,
    /// The value that was there before.
    pub old: &'a Value,
}

impl<'a> Correlated<'a> {
    /// The same key in both.
    pub fn key(&self, node: &Node, name: &str) -> Option<Self> {
        node.child(name)?;
        Some(Self { new: self.new.get(name)?, old: self.old.get(name)? })
    }

    /// The item of the old list with the identity of the new list's item at a place.
    pub fn index(&self, node: &Node, index: usize) -> Option<Self> {
        let ListType::Map(keys) = &node.list else { return None };
        let new = self.new.as_array()?.get(index)?;
        let same = |old: &&Value| {
            old.is_object()
                && keys.iter().all(|key| identity(node, old, key) == identity(node, new, key))
        };
        let old = self.old.as_array()?.iter().find(same)?;
        Some(Self { new, old })
    }

    /// Whether nothing has changed.
    pub fn unchanged(&self) -> bool {
        self.new == self.old
    }
}

/// A key field's value, with its default if it is not given.
fn identity<'a>(list: &'a Node, item: &'a Value, key: &str) -> Option<&'a Value> {
    let default = || list.items.as_deref()?.property(key)?.default.as_deref();
    item.get(key).or_else(default)
}

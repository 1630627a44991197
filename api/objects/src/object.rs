//! Short paths into an object held as JSON.

use serde_json::{Map, Value};

/// Access to the parts every Kubernetes object has. All readers tolerate absence: a missing or
/// wrongly typed string reads as `""`, a missing list or map as empty.
pub trait ObjectExt {
    /// The value at a path of keys, if every step exists.
    fn at(&self, path: &[&str]) -> Option<&Value>;
    /// As [`ObjectExt::at`], mutable.
    fn at_mut(&mut self, path: &[&str]) -> Option<&mut Value>;
    /// The string at a path, else `""`.
    fn str_at(&self, path: &[&str]) -> &str;
    /// The integer at a path.
    fn i64_at(&self, path: &[&str]) -> Option<i64>;
    /// The boolean at a path.
    fn bool_at(&self, path: &[&str]) -> Option<bool>;
    /// The list at a path, else empty.
    fn list_at(&self, path: &[&str]) -> &[Value];
    /// The map at a path.
    fn map_at(&self, path: &[&str]) -> Option<&Map<String, Value>>;
    /// Sets a value, making the maps on the way. A non-map on the way is replaced by a map.
    fn set_at(&mut self, path: &[&str], value: Value);
    /// Removes a value and returns it.
    fn remove_at(&mut self, path: &[&str]) -> Option<Value>;

    /// `kind`.
    fn kind(&self) -> &str {
        self.str_at(&["kind"])
    }
    /// `apiVersion`.
    fn api_version(&self) -> &str {
        self.str_at(&["apiVersion"])
    }
    /// `metadata.name`.
    fn name(&self) -> &str {
        self.str_at(&["metadata", "name"])
    }
    /// `metadata.namespace`.
    fn namespace(&self) -> &str {
        self.str_at(&["metadata", "namespace"])
    }
    /// `metadata.uid`.
    fn uid(&self) -> &str {
        self.str_at(&["metadata", "uid"])
    }
    /// `metadata.resourceVersion`.
    fn resource_version(&self) -> &str {
        self.str_at(&["metadata", "resourceVersion"])
    }
    /// `metadata.deletionTimestamp`, `""` while the object is not being deleted.
    fn deletion_timestamp(&self) -> &str {
        self.str_at(&["metadata", "deletionTimestamp"])
    }
    /// `metadata.generation`, 0 when absent.
    fn generation(&self) -> i64 {
        self.i64_at(&["metadata", "generation"]).unwrap_or(0)
    }
    /// `metadata.labels`.
    fn labels(&self) -> Option<&Map<String, Value>> {
        self.map_at(&["metadata", "labels"])
    }
    /// `metadata.annotations`.
    fn annotations(&self) -> Option<&Map<String, Value>> {
        self.map_at(&["metadata", "annotations"])
    }
    /// `metadata.finalizers`.
    fn finalizers(&self) -> Vec<&str> {
        self.list_at(&["metadata", "finalizers"]).iter().filter_map(Value::as_str).collect()
    }
    /// `metadata.ownerReferences`.
    fn owner_references(&self) -> &[Value] {
        self.list_at(&["metadata", "ownerReferences"])
    }
}

impl ObjectExt for Value {
    fn at(&self, path: &[&str]) -> Option<&Value> {
        path.iter().try_fold(self, |value, key| value.as_object()?.get(*key))
    }

    fn at_mut(&mut self, path: &[&str]) -> Option<&mut Value> {
        path.iter().try_fold(self, |value, key| value.as_object_mut()?.get_mut(*key))
    }

    fn str_at(&self, path: &[&str]) -> &str {
        self.at(path).and_then(Value::as_str).unwrap_or("")
    }

    fn i64_at(&self, path: &[&str]) -> Option<i64> {
        self.at(path).and_then(Value::as_i64)
    }

    fn bool_at(&self, path: &[&str]) -> Option<bool> {
        self.at(path).and_then(Value::as_bool)
    }

    fn list_at(&self, path: &[&str]) -> &[Value] {
        self.at(path).and_then(Value::as_array).map(Vec::as_slice).unwrap_or(&[])
    }

    fn map_at(&self, path: &[&str]) -> Option<&Map<String, Value>> {
        self.at(path).and_then(Value::as_object)
    }

    fn set_at(&mut self, path: &[&str], value: Value) {
        let mut here = self;
        for key in path {
            if !here.is_object() {
                *here = Value::Object(Map::new());
            }
            let map = here.as_object_mut().expect("made a map above");
            here = map.entry(*key).or_insert(Value::Null);
        }
        *here = value;
    }

    fn remove_at(&mut self, path: &[&str]) -> Option<Value> {
        let (last, parents) = path.split_last()?;
        self.at_mut(parents)?.as_object_mut()?.remove(*last)
    }
}

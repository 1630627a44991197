//! Sets of field paths, and their JSON form (`FieldsV1`).

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use serde_json::{Map, Value};

/// A set of paths, as a tree. A path element is kept in its JSON form: `f:NAME` a field, `k:{…}` a
/// list item by its keys, `v:…` a set's item by its value, `i:N` an item by its index.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FieldSet {
    nodes: BTreeMap<Box<str>, Node>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Node {
    /// Whether the path that ends here is in the set.
    pub(super) member: bool,
    /// Paths that go on from here.
    pub(super) children: FieldSet,
}

impl Node {
    fn is_empty(&self) -> bool {
        !self.member && self.children.is_empty()
    }
}

impl FieldSet {
    /// A set of paths of plain fields, such as `["status"]` and `["metadata", "labels"]`.
    pub fn of_fields(paths: &[&[&str]]) -> Self {
        let mut set = Self::default();
        for path in paths {
            let mut here = &mut set;
            for (index, name) in path.iter().enumerate() {
                let node = here.nodes.entry(format!("f:{name}").into()).or_default();
                node.member |= index + 1 == path.len();
                here = &mut node.children;
            }
        }
        set
    }

    /// Reads the JSON form. What is not an object reads as empty, as upstream reads it.
    pub fn from_json(json: &Value) -> Self {
        let entries = json.as_object().into_iter().flatten();
        let nodes = entries
            .filter(|(element, _)| is_element(element))
            .map(|(element, below)| {
                let children = Self::from_json(below);
                // No paths below means that the path ends here; else a dot says so.
                let member = children.is_empty() || below.get(".").is_some();
                (element.as_str().into(), Node { member, children })
            })
            .collect();
        Self { nodes }
    }

    /// The JSON form.
    pub fn to_json(&self) -> Value {
        let entries = self.nodes.iter().map(|(element, node)| {
            let mut below = node.children.to_json();
            if node.member
                && !node.children.is_empty()
                && let Some(map) = below.as_object_mut()
            {
                map.insert(".".to_string(), Value::Object(Map::new()));
            }
            (element.to_string(), below)
        });
        Value::Object(entries.collect())
    }

    /// Whether no path is in the set.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// The paths below an element.
    pub(super) fn get(&self, element: &str) -> Option<&Node> {
        self.nodes.get(element)
    }

    /// Adds paths at and below an element.
    pub(super) fn add(&mut self, element: Box<str>, member: bool, children: Self) {
        if !member && children.is_empty() {
            return;
        }
        match self.nodes.entry(element) {
            Entry::Vacant(place) => {
                place.insert(Node { member, children });
            }
            Entry::Occupied(mut place) => {
                let node = place.get_mut();
                node.member |= member;
                node.children = node.children.union(&children);
            }
        }
    }

    /// Every path of either set.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let mut out = self.clone();
        for (element, node) in &other.nodes {
            match out.nodes.get_mut(element) {
                Some(mine) => {
                    mine.member |= node.member;
                    mine.children = mine.children.union(&node.children);
                }
                None => {
                    out.nodes.insert(element.clone(), node.clone());
                }
            }
        }
        out
    }

    /// Every path of both sets.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        self.combine(|element, node| {
            let theirs = other.nodes.get(element)?;
            Some(Node {
                member: node.member && theirs.member,
                children: node.children.intersection(&theirs.children),
            })
        })
    }

    /// Every path of this set that is not in the other.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        self.combine(|element, node| {
            Some(match other.nodes.get(element) {
                None => node.clone(),
                Some(theirs) => Node {
                    member: node.member && !theirs.member,
                    children: node.children.difference(&theirs.children),
                },
            })
        })
    }

    /// As [`FieldSet::difference`], but a path of the other set takes all paths below it along.
    #[must_use]
    pub fn recursive_difference(&self, other: &Self) -> Self {
        self.combine(|element, node| match other.nodes.get(element) {
            None => Some(node.clone()),
            Some(theirs) if theirs.member => None,
            Some(theirs) => Some(Node {
                member: node.member,
                children: node.children.recursive_difference(&theirs.children),
            }),
        })
    }

    fn combine(&self, keep: impl Fn(&str, &Node) -> Option<Node>) -> Self {
        let kept = self.nodes.iter().filter_map(|(element, node)| {
            let node = keep(element, node).filter(|node| !node.is_empty())?;
            Some((element.clone(), node))
        });
        Self { nodes: kept.collect() }
    }

    /// The elements at the root, each with whether it is a member and what is below.
    pub(super) fn nodes(&self) -> impl Iterator<Item = (&str, &Node)> {
        self.nodes.iter().map(|(element, node)| (&**element, node))
    }

    /// Every path as messages print it: `.spec.containers[name="a"].image`.
    pub fn paths(&self) -> Vec<String> {
        let mut out = Vec::new();
        self.print("", &mut out);
        out
    }

    fn print(&self, prefix: &str, out: &mut Vec<String>) {
        for (element, node) in &self.nodes {
            let path = format!("{prefix}{}", print_element(element));
            node.children.print(&path, out);
            if node.member {
                out.push(path);
            }
        }
    }
}

fn is_element(text: &str) -> bool {
    ["f:", "k:", "v:", "i:"].iter().any(|prefix| text.starts_with(prefix))
}

/// A path element as messages print it: `.name`, `[key="value"]`, `[="value"]`, `[0]`.
pub(super) fn print_element(element: &str) -> String {
    let (kind, text) = element.split_at(2);
    match kind {
        "k:" => {
            let keys: Map<String, Value> = serde_json::from_str(text).unwrap_or_default();
            let pairs: Vec<String> =
                keys.iter().map(|(key, value)| format!("{key}={value}")).collect();
            format!("[{}]", pairs.join(","))
        }
        "v:" => format!("[={text}]"),
        "i:" => format!("[{text}]"),
        _ => format!(".{text}"),
    }
}

//! Which keys a list or a watch is about.

use std::ops::Bound;

/// Everything below a prefix that is empty or ends in `/`, or exactly one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Scope<'a>(pub(crate) &'a str);

impl<'a> Scope<'a> {
    pub(crate) fn contains(self, key: &str) -> bool {
        if self.is_prefix() { key.starts_with(self.0) } else { key == self.0 }
    }

    /// Where a range over the keys of this scope starts, after `start_after` if that lies within.
    pub(crate) fn start(self, start_after: Option<&'a str>) -> Bound<&'a str> {
        match start_after {
            Some(after) if after >= self.0 => Bound::Excluded(after),
            _ => Bound::Included(self.0),
        }
    }

    fn is_prefix(self) -> bool {
        self.0.is_empty() || self.0.ends_with('/')
    }
}

/// Every scope that contains `key`, widest first: `""`, each part up to a `/`, and the key itself.
pub(crate) fn scopes_of(key: &str) -> impl Iterator<Item = &str> {
    let parts = key.match_indices('/').map(|(at, _)| &key[..=at]);
    std::iter::once("").chain(parts).chain((!key.ends_with('/')).then_some(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_is_everything_below_or_one_key() {
        let keys = ["/pods/a/x", "/pods/a/x1", "/pods/ab/x", "/podsets/a/x"];
        let cases = [
            ("", vec![0, 1, 2, 3]),
            ("/pods/", vec![0, 1, 2]),
            ("/pods/a/", vec![0, 1]),
            ("/pods/a/x", vec![0]),
            ("/pods/a", vec![]),
        ];
        for (scope, expected) in cases {
            let found: Vec<usize> =
                (0..keys.len()).filter(|&i| Scope(scope).contains(keys[i])).collect();
            assert_eq!(found, expected, "{scope}");
        }
    }

    #[test]
    fn the_scopes_of_a_key_are_those_that_contain_it() {
        let scopes: Vec<&str> = scopes_of("apps/deployments/default/web").collect();
        assert_eq!(
            scopes,
            [
                "",
                "apps/",
                "apps/deployments/",
                "apps/deployments/default/",
                "apps/deployments/default/web"
            ]
        );
        assert!(scopes.iter().all(|scope| Scope(scope).contains("apps/deployments/default/web")));
    }
}

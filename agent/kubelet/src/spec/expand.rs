//! `$(NAME)` in commands, arguments and values of variables. PURE.
//!
//! Source of behaviour: kubernetes third_party/forked/golang/expansion, v1.36.

/// Replaces each `$(NAME)` that `lookup` knows; others stay as they are, and `$$` is a `$`.
pub(crate) fn expand<'a>(text: &str, lookup: impl Fn(&str) -> Option<&'a str>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        if let Some(tail) = after.strip_prefix('$') {
            out.push('$');
            rest = tail;
        } else if let Some((name, tail)) = reference(after) {
            match lookup(name) {
                Some(value) => out.push_str(value),
                None => {
                    out.push_str("$(");
                    out.push_str(name);
                    out.push(')');
                }
            }
            rest = tail;
        } else {
            out.push('$');
            rest = after;
        }
    }
    out.push_str(rest);
    out
}

/// The name in `(NAME)`, and what follows.
fn reference(text: &str) -> Option<(&str, &str)> {
    text.strip_prefix('(')?.split_once(')')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_replaced_and_dollars_escaped() {
        let lookup = |name: &str| match name {
            "A" => Some("a"),
            "EMPTY" => Some(""),
            _ => None,
        };
        for (text, wanted) in [
            ("", ""),
            ("x", "x"),
            ("$(A)", "a"),
            ("$(A)$(A)-$(EMPTY)", "aa-"),
            ("$(B)", "$(B)"),
            ("$$(A)", "$(A)"),
            ("$$$(A)", "$a"),
            ("$", "$"),
            ("$A ${A} $(A", "$A ${A} $(A"),
            ("é$(A)é", "éaé"),
        ] {
            assert_eq!(expand(text, lookup), wanted, "{text}");
        }
    }
}

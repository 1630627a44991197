//! What types and fields are for, in words: unpacked while a document is being made.

use std::collections::HashMap;

/// Made by `build.rs`.
static PACKED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptions.zst"));

/// Bounds the unpacked text: it is about 1 MiB.
const UNPACKED_MAX_BYTES: usize = 16 << 20;

/// Descriptions by type and field.
pub(super) struct Descriptions {
    types: HashMap<String, Type>,
}

/// Descriptions of one type.
#[derive(Default)]
pub(super) struct Type {
    /// Of the type itself.
    pub(super) text: String,
    fields: HashMap<String, Field>,
}

/// What is known of a field.
pub(super) struct Field {
    /// What it is for.
    pub(super) text: String,
    /// It must be there.
    pub(super) required: bool,
}

impl Descriptions {
    /// Unpacks everything.
    pub(super) fn unpack() -> Self {
        let bytes = zstd::bulk::decompress(PACKED, UNPACKED_MAX_BYTES);
        let text = bytes.ok().and_then(|bytes| String::from_utf8(bytes).ok());
        Self::parse(&text.expect("the build has packed this text"))
    }

    fn parse(text: &str) -> Self {
        let mut types: HashMap<String, Type> = HashMap::new();
        let mut current = String::new();
        for line in text.lines() {
            let Some((name, rest)) = line.split_once('\t') else { continue };
            if name.is_empty() {
                let Some((field, words)) = rest.split_once('\t') else { continue };
                let required = field.starts_with('!');
                let field = field.trim_start_matches('!').to_string();
                let known = types.entry(current.clone()).or_default();
                known.fields.insert(field, Field { text: unescape(words), required });
            } else {
                current = name.to_string();
                types.entry(current.clone()).or_default().text = unescape(rest);
            }
        }
        Self { types }
    }

    /// Those of a type by its OpenAPI name.
    pub(super) fn of(&self, name: &str) -> Option<&Type> {
        self.types.get(name)
    }
}

impl Type {
    /// That of a field.
    pub(super) fn field(&self, name: &str) -> Option<&Field> {
        self.fields.get(name)
    }
}

fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('n') => out.push('\n'),
                Some(other) => out.push(other),
                None => {}
            },
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_types_and_fields() {
        let all =
            Descriptions::parse("a.B\tTop \\\\ text\\nmore\n\t!name\tIts name\n\tother\tElse\n");
        let found = all.of("a.B").expect("known");
        assert_eq!(found.text, "Top \\ text\nmore");
        assert!(found.field("name").expect("known").required);
        assert!(!found.field("other").expect("known").required);
    }

    #[test]
    fn the_packed_text_knows_pods() {
        let all = Descriptions::unpack();
        let pod = all.of("io.k8s.api.core.v1.PodSpec").expect("known");
        assert!(pod.field("containers").expect("known").required);
    }
}

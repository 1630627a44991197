//! Query parameters. PURE.

/// The parameters of a request, in order; names may repeat.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Parameters(Vec<(String, String)>);

impl Parameters {
    /// Parses `a=b&c=d`.
    pub(super) fn parse(query: &str) -> Self {
        let pairs = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(name), decode(value))
        });
        Self(pairs.collect())
    }

    /// The first value of a parameter.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let mut all = self.0.iter().filter(|(known, _)| known == name);
        all.next().map(|(_, value)| value.as_str())
    }

    /// All values of a parameter.
    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Whether any of the names is given as true: `1`, `true`, or without a value.
    pub(super) fn flag(&self, names: &[&str]) -> bool {
        let mut values = names.iter().filter_map(|name| self.get(name));
        values.any(|value| matches!(value, "1" | "true" | "True" | ""))
    }
}

/// Decodes `%41` and `+`.
fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut index = 0;
    while index < bytes.len() {
        let hex = bytes.get(index + 1..index + 3);
        // Rust's parser takes a sign for part of a number.
        let hex = hex.filter(|hex| hex.iter().all(u8::is_ascii_hexdigit));
        let code = hex.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        match (bytes[index], code) {
            (b'%', Some(code)) => {
                out.push(code);
                index += 3;
            }
            (b'+', _) => {
                out.push(b' ');
                index += 1;
            }
            (byte, _) => {
                out.push(byte);
                index += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_repeat_and_are_decoded() {
        let query = Parameters::parse("command=sh&command=-c&command=echo%20a%26b+c&tty=1&x");
        assert_eq!(query.all("command").collect::<Vec<_>>(), ["sh", "-c", "echo a&b c"]);
        assert!(query.flag(&["tty"]) && query.flag(&["x"]) && !query.flag(&["stdin", "input"]));
        for (query, wanted) in [
            ("a=%zz", Some("%zz")),
            ("a=%+1", Some("% 1")),
            ("a=%4", Some("%4")),
            ("a=%", Some("%")),
            ("a=b=c", Some("b=c")),
            ("a", Some("")),
            ("&&a=1&a=2", Some("1")),
            ("%61=%C3%A9", Some("\u{e9}")),
            ("a=%ff", Some("\u{fffd}")),
            ("b=1", None),
            ("", None),
        ] {
            assert_eq!(Parameters::parse(query).get("a"), wanted, "{query}");
        }
    }

    #[test]
    fn flags_are_given_in_several_ways() {
        for (query, wanted) in [
            ("x=1", true),
            ("x=true", true),
            ("x", true),
            ("y=1", true),
            ("x=0&y=1", true),
            ("x=0", false),
            ("x=false", false),
            ("z=1", false),
        ] {
            assert_eq!(Parameters::parse(query).flag(&["x", "y"]), wanted, "{query}");
        }
    }
}

//! A request's query parameters, in the order they came.

/// Decoded query parameters; a name may be repeated.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Parses the part of a URI after `?`.
    pub fn parse(text: &str) -> Self {
        Self(form_urlencoded::parse(text.as_bytes()).into_owned().collect())
    }

    /// The first value of a parameter.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The first value, `""` when absent.
    pub fn text(&self, name: &str) -> &str {
        self.get(name).unwrap_or("")
    }

    /// Every value of a parameter.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// A boolean as Kubernetes reads one in a query: absent, `0` and `false` in any case are
    /// false, everything else (also the empty value) is true.
    ///
    /// Source: apimachinery `runtime.Convert_Slice_string_To_bool`, v1.36.
    pub fn flag(&self, name: &str) -> bool {
        match self.get(name) {
            None => false,
            Some(value) => !(value == "0" || value.eq_ignore_ascii_case("false")),
        }
    }

    /// Every parameter.
    pub fn pairs(&self) -> &[(String, String)] {
        &self.0
    }
}

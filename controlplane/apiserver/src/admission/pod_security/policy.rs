//! What the labels of a namespace ask for. PURE.
//!
//! Source of behaviour: k8s.io/pod-security-admission `api/helpers.go`, v1.36.

use objects::{FieldErrors, FieldPath};
use serde_json::{Map, Value};

const PREFIX: &str = "pod-security.kubernetes.io/";

/// How much is allowed, from everything to little.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    Privileged,
    Baseline,
    Restricted,
}

impl Level {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "privileged" => Some(Self::Privileged),
            "baseline" => Some(Self::Baseline),
            "restricted" => Some(Self::Restricted),
            _ => None,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Privileged => "privileged",
            Self::Baseline => "baseline",
            Self::Restricted => "restricted",
        }
    }
}

/// A level as a version of Kubernetes understood it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Standard {
    pub(super) level: Level,
    /// The minor version, `None` for the latest.
    pub(super) minor: Option<u32>,
}

impl Standard {
    const PRIVILEGED: Self = Self { level: Level::Privileged, minor: None };
}

impl std::fmt::Display for Standard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.minor {
            Some(minor) => write!(f, "{}:v1.{minor}", self.level.as_str()),
            None => write!(f, "{}:latest", self.level.as_str()),
        }
    }
}

/// What happens to pods beyond which standard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Policy {
    /// They are refused.
    pub(super) enforce: Standard,
    /// They are noted in the audit log.
    pub(super) audit: Standard,
    /// The client is warned.
    pub(super) warn: Standard,
}

impl Policy {
    /// The policy of a namespace, and what is wrong with its labels. Wrong levels count as the
    /// strictest where they refuse, and as none where they only speak.
    pub(super) fn of(labels: Option<&Map<String, Value>>) -> (Self, FieldErrors) {
        let mut reader = Reader { labels, errors: FieldErrors::default() };
        let enforce_level = reader.level("enforce");
        let enforce = Standard {
            level: enforce_level.unwrap_or(Ok(Level::Privileged)).unwrap_or(Level::Restricted),
            minor: reader.minor("enforce-version").unwrap_or(None),
        };
        let lenient = |level: Option<Result<Level, ()>>| match level {
            Some(Ok(level)) => level,
            Some(Err(())) | None => Level::Privileged,
        };
        let audit = Standard {
            level: lenient(reader.level("audit")),
            minor: reader.minor("audit-version").unwrap_or(None),
        };
        let warn_level = reader.level("warn");
        let warn_minor = reader.minor("warn-version");
        let mut warn = Standard { level: lenient(warn_level), minor: warn_minor.unwrap_or(None) };
        // What is refused is also warned of, in the controllers whose pods will be refused.
        if let (None, Some(Ok(level))) = (warn_level, enforce_level)
            && level > warn.level
        {
            warn.level = level;
            if warn_minor.is_none() {
                warn.minor = enforce.minor;
            }
        }
        (Self { enforce, audit, warn }, reader.errors)
    }

    /// Whether nothing is asked for.
    pub(super) fn is_privileged(&self) -> bool {
        [self.enforce, self.audit, self.warn].iter().all(|one| one.level == Level::Privileged)
    }
}

impl Default for Policy {
    fn default() -> Self {
        let none = Standard::PRIVILEGED;
        Self { enforce: none, audit: none, warn: none }
    }
}

struct Reader<'a> {
    labels: Option<&'a Map<String, Value>>,
    errors: FieldErrors,
}

impl<'a> Reader<'a> {
    fn text(&self, name: &str) -> Option<&'a str> {
        self.labels?.get(&format!("{PREFIX}{name}"))?.as_str()
    }

    fn wrong(&mut self, name: &str, value: &str, why: &str) {
        let path = FieldPath::new("metadata").child("labels").key(&format!("{PREFIX}{name}"));
        self.errors.invalid_str(&path, value, why);
    }

    fn level(&mut self, name: &str) -> Option<Result<Level, ()>> {
        let text = self.text(name)?;
        let level = Level::parse(text);
        if level.is_none() {
            self.wrong(name, text, "must be one of privileged, baseline, restricted");
        }
        Some(level.ok_or(()))
    }

    /// `Some(None)` is the latest.
    fn minor(&mut self, name: &str) -> Option<Option<u32>> {
        let text = self.text(name)?;
        if text == "latest" {
            return Some(None);
        }
        let digits = text.strip_prefix("v1.").filter(|digits| {
            let all = digits.bytes().all(|byte| byte.is_ascii_digit());
            all && (*digits == "0" || !digits.starts_with('0'))
        });
        let minor = digits.and_then(|digits| digits.parse().ok());
        if minor.is_none() {
            self.wrong(name, text, "must be \"latest\" or \"v1.x\"");
        }
        Some(minor)
    }
}

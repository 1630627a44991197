//! Impersonation: a user acting as another, if they may.
//!
//! Source of behaviour: kubernetes apiserver `pkg/endpoints/filters/impersonation`, v1.36.

use http::HeaderMap;
use objects::ApiError;

use super::{Attributes, Identity};
use crate::identity::{ANONYMOUS, AUTHENTICATED, UNAUTHENTICATED, User};
use crate::route::RequestInfo;
use crate::server::Server;

const EXTRA: &str = "impersonate-extra-";

/// The user whom the request is made as.
///
/// # Errors
/// 400 for other headers without a user name, 403 if the user may not.
pub fn apply(
    server: &Server,
    user: User,
    headers: &HeaderMap,
    _info: &RequestInfo,
) -> Result<Identity, ApiError> {
    let Some(wanted) = wanted(headers)? else {
        return Ok(Identity { user, impersonator: None });
    };
    for needed in needed(&wanted) {
        let attributes = needed.attributes();
        let decision = super::decide(server, &user, &attributes);
        if !decision.allowed {
            return Err(super::forbidden(&user, &attributes, &decision.reason));
        }
    }
    Ok(Identity { user: complete(wanted), impersonator: Some(user) })
}

fn texts(headers: &HeaderMap, name: &str) -> Vec<String> {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .map(str::to_string)
        .collect()
}

/// What the headers ask for.
fn wanted(headers: &HeaderMap) -> Result<Option<User>, ApiError> {
    let mut user = User {
        name: texts(headers, "impersonate-user").into_iter().next().unwrap_or_default(),
        uid: texts(headers, "impersonate-uid").into_iter().next().unwrap_or_default(),
        groups: texts(headers, "impersonate-group"),
        ..User::default()
    };
    for name in headers.keys() {
        let Some(key) = name.as_str().strip_prefix(EXTRA) else { continue };
        let key = percent_encoding::percent_decode_str(key).decode_utf8_lossy().into_owned();
        user.extra.insert(key, texts(headers, name.as_str()));
    }
    if !user.name.is_empty() {
        return Ok(Some(user));
    }
    if user.uid.is_empty() && user.groups.is_empty() && user.extra.is_empty() {
        return Ok(None);
    }
    Err(ApiError::bad_request(format!(
        "requested {} without impersonating a user name",
        go_printed(&user)
    )))
}

/// The message shows upstream's structure in Go's notation.
fn go_printed(user: &User) -> String {
    let strings = |list: &[String]| match list {
        [] => "[]string(nil)".to_string(),
        list => {
            let quoted: Vec<String> = list.iter().map(|item| format!("{item:?}")).collect();
            format!("[]string{{{}}}", quoted.join(", "))
        }
    };
    let extra = if user.extra.is_empty() {
        "map[string][]string(nil)".to_string()
    } else {
        let pairs: Vec<String> =
            user.extra.iter().map(|(key, list)| format!("{key:?}:{}", strings(list))).collect();
        format!("map[string][]string{{{}}}", pairs.join(", "))
    };
    format!(
        "&user.DefaultInfo{{Name:{:?}, UID:{:?}, Groups:{}, Extra:{extra}}}",
        user.name,
        user.uid,
        strings(&user.groups)
    )
}

struct Needed {
    group: &'static str,
    namespace: String,
    resource: &'static str,
    subresource: String,
    name: String,
}

impl Needed {
    fn attributes(&self) -> Attributes<'_> {
        Attributes {
            verb: "impersonate",
            group: self.group,
            version: "v1",
            namespace: &self.namespace,
            resource: self.resource,
            subresource: &self.subresource,
            name: &self.name,
            path: "",
        }
    }
}

/// The permissions that impersonation takes, one for each thing asserted.
fn needed(user: &User) -> Vec<Needed> {
    let plain = |resource, name: &str| Needed {
        group: "",
        namespace: String::new(),
        resource,
        subresource: String::new(),
        name: name.to_string(),
    };
    let mut out = vec![match user.service_account() {
        Some((namespace, name)) => {
            Needed { namespace: namespace.to_string(), ..plain("serviceaccounts", name) }
        }
        None => plain("users", &user.name),
    }];
    out.extend(user.groups.iter().map(|group| plain("groups", group)));
    const AUTHENTICATION: &str = "authentication.k8s.io";
    for (key, values) in &user.extra {
        out.extend(values.iter().map(|value| Needed {
            group: AUTHENTICATION,
            subresource: key.clone(),
            ..plain("userextras", value)
        }));
    }
    if !user.uid.is_empty() {
        out.push(Needed { group: AUTHENTICATION, ..plain("uids", &user.uid) });
    }
    out
}

/// Adds the groups that the impersonated user would have been given at authentication.
fn complete(mut user: User) -> User {
    if user.groups.is_empty()
        && let Some((namespace, _)) = user.service_account()
    {
        let own = format!("system:serviceaccounts:{namespace}");
        user.groups = vec!["system:serviceaccounts".into(), own];
    }
    if user.name == ANONYMOUS {
        user.join(UNAUTHENTICATED);
    } else if !user.is_in(UNAUTHENTICATED) {
        user.join(AUTHENTICATED);
    }
    user
}

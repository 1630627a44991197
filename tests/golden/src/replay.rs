//! Replays the cases of an area.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response};
use serde_json::{Value, json};

use crate::case::{self, Case, Step};
use crate::compare::differences;
use crate::normal;
use crate::server::Server;

/// Longest wait for what controllers do.
const BOUND: Duration = Duration::from_secs(15);
/// The same for a case that is known to differ.
const KNOWN_BOUND: Duration = Duration::from_secs(2);
/// Time between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Replays an area and reports what is not as it should be: cases that differ and are not in
/// `differences.tsv`, and cases in that list that do not differ.
///
/// # Errors
/// The report.
pub async fn area(area: &str) -> Result<(), String> {
    let server = Server::start().await;
    prepare(&server).await;
    let known = known_differences();
    let mut report = Vec::new();
    for case in case::load(area) {
        let name = format!("{area}/{}", case.name);
        let is_known = known.contains(&name);
        let bound = if is_known { KNOWN_BOUND } else { BOUND };
        let found = play(&server, &case, bound).await;
        match (found.is_empty(), is_known) {
            (true, true) if !case.is_fixture() => {
                report.push(format!("{name} is as recorded: take it out of differences.tsv"));
            }
            (false, false) => report.push(format!("{name}\n{}", found.join("\n"))),
            _ => {}
        }
    }
    if report.is_empty() {
        return Ok(());
    }
    Err(format!("{} cases\n{}", report.len(), report.join("\n")))
}

fn known_differences() -> BTreeSet<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("differences.tsv");
    let text = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    lines.map(|line| line.split('\t').next().unwrap_or_default().to_owned()).collect()
}

/// The namespace that the cases are in, with its service account.
async fn prepare(server: &Server) {
    let body = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "golden"}});
    let made = server.send(request("POST", "/api/v1/namespaces", &[], body.to_string())).await;
    assert_eq!(made.status(), 201);
    let path = "/api/v1/namespaces/golden/serviceaccounts/default";
    let mut looks = tokio::time::interval(LOOK_EVERY);
    let look = async {
        loop {
            looks.tick().await;
            if server.send(request("GET", path, &[], String::new())).await.status() == 200 {
                return;
            }
        }
    };
    tokio::time::timeout(BOUND, look).await.expect("the service account is made");
}

fn request(
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Request<Bytes> {
    let method = Method::from_bytes(method.as_bytes()).expect("a method");
    let body = body.into();
    let mut request = Request::builder().method(method).uri(path);
    let mut given = BTreeMap::from([
        ("user-agent".to_owned(), "corpus-client/1.0"),
        ("accept".to_owned(), "application/json"),
    ]);
    if !body.is_empty() {
        given.insert("content-type".to_owned(), "application/json");
    }
    given.extend(headers.iter().map(|(name, value)| (name.to_lowercase(), *value)));
    for (name, value) in given {
        request = request.header(name, value);
    }
    request.body(body).expect("a request")
}

/// Differences of a case, by step.
async fn play(server: &Server, case: &Case, bound: Duration) -> Vec<String> {
    let mut captured = BTreeMap::new();
    let mut found = Vec::new();
    for (index, step) in case.steps.iter().enumerate() {
        let differ = settle(server, step, &mut captured, bound).await;
        if !differ.is_empty() {
            found.push(format!("  step {index} {} {}", step.method, step.path));
            found.extend(differ.into_iter().take(8).map(|line| format!("    {line}")));
        }
    }
    found
}

/// Sends a step; where the recording waited, again until the answer is the recorded one.
async fn settle(
    server: &Server,
    step: &Step,
    captured: &mut BTreeMap<String, String>,
    bound: Duration,
) -> Vec<String> {
    let started = tokio::time::Instant::now();
    let mut looks = tokio::time::interval(LOOK_EVERY);
    loop {
        looks.tick().await;
        let differ = once(server, step, captured).await;
        if differ.is_empty() || step.sleep == 0.0 || started.elapsed() > bound {
            return differ;
        }
    }
}

async fn once(
    server: &Server,
    step: &Step,
    captured: &mut BTreeMap<String, String>,
) -> Vec<String> {
    let body = match &step.body {
        None => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
    };
    let mut headers: Vec<(&str, &str)> =
        step.headers.iter().map(|(name, value)| (&**name, &**value)).collect();
    if matches!(step.body, Some(Value::String(_)))
        && !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type"))
    {
        headers.push(("content-type", ""));
    }
    let (path, body) = (expand(&step.path, captured), expand(&body, captured));
    let answer = server.send(request(&step.method, &path, &headers, body)).await;
    let got = recorded_form(step, &answer, captured);
    let mut want = normal::value(&step.response);
    for path in &step.drop {
        normal::remove(&mut want, path);
    }
    let want = json!({
        "status": step.status,
        "response": want,
        "warnings": step.warnings,
        "contentType": step.content_type,
    });
    differences(&want, &got)
}

/// An answer as the recording has it.
fn recorded_form(
    step: &Step,
    answer: &Response<Bytes>,
    captured: &mut BTreeMap<String, String>,
) -> Value {
    let content_type = answer.headers().get("content-type").and_then(|value| value.to_str().ok());
    let content_type = content_type.unwrap_or_default();
    let text = String::from_utf8_lossy(answer.body());
    let mut shown = if step.stream && answer.status() == 200 {
        let lines = text.lines().filter(|line| !line.trim().is_empty());
        lines.map(|line| serde_json::from_str(line).unwrap_or_else(|_| json!(line))).collect()
    } else if content_type.contains("json") || text.starts_with('{') {
        serde_json::from_str(&text).unwrap_or_else(|_| json!(text))
    } else {
        json!(text)
    };
    for (name, path) in &step.capture {
        let value = normal::dig(&shown, path).cloned().unwrap_or_default();
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        captured.insert(name.clone(), value);
    }
    match step.compare.as_str() {
        "status" => shown = Value::Null,
        "keys" => {
            let place = match step.keys_of.as_str() {
                "" => Some(&shown),
                path => normal::dig(&shown, path),
            };
            let mut keys: Vec<String> = match place {
                Some(Value::Object(map)) => map.keys().cloned().collect(),
                Some(Value::String(text)) => text.chars().map(String::from).collect(),
                _ => Vec::new(),
            };
            keys.sort();
            shown = json!(keys);
        }
        _ => {}
    }
    let mut shown = normal::value(&shown);
    for path in &step.drop {
        normal::remove(&mut shown, path);
    }
    json!({
        "status": answer.status().as_u16(),
        "response": shown,
        "warnings": warnings(answer),
        "contentType": content_type,
    })
}

fn warnings(answer: &Response<Bytes>) -> Vec<String> {
    let texts = answer.headers().get_all("warning").iter().filter_map(|value| {
        let value = std::str::from_utf8(value.as_bytes()).ok()?;
        // 299 - "TEXT"
        let quoted = value.splitn(3, ' ').nth(2)?.strip_prefix('"')?.strip_suffix('"')?;
        let mut text = String::new();
        let mut chars = quoted.chars();
        while let Some(char) = chars.next() {
            text.extend(if char == '\\' { chars.next() } else { Some(char) });
        }
        Some(normal::text(&text))
    });
    let mut texts: Vec<String> = texts.collect();
    texts.sort();
    texts
}

/// Fills in `${PAD:N}` and captured values.
fn expand(text: &str, captured: &BTreeMap<String, String>) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        out.push_str(before);
        let Some((name, after)) = after.split_once('}') else {
            out.push_str("${");
            rest = after;
            continue;
        };
        match name.strip_prefix("PAD:").and_then(|count| count.parse().ok()) {
            Some(count) => out.extend(std::iter::repeat_n('a', count)),
            None => match captured.get(name) {
                Some(value) => out.push_str(value),
                None => out.push_str(&format!("${{{name}}}")),
            },
        }
        rest = after;
    }
    out + rest
}

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect()
}

#[test]
fn matching() {
    let web = labels(&[("app", "web"), ("tier", "front"), ("n", "7")]);
    for (text, wanted) in [
        ("", true),
        ("app=web", true),
        ("app == web , tier!=back", true),
        ("app in (db, web),tier", true),
        ("app notin (db)", true),
        ("other notin (db)", true),
        ("!other", true),
        ("other!=x", true),
        ("n>5,n<8", true),
        ("in=x", false),
        ("app=", false),
        ("!app", false),
        ("app in ()", false),
        ("n>7", false),
    ] {
        let selector = Selector::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(selector.matches(&web), wanted, "{text}");
    }
    assert!(!Selector::nothing().matches(&web));
}

#[test]
fn malformed_texts_as_recorded() {
    for (text, wanted) in [
        ("a in (b", "unable to parse requirement: found '', expected: ',' or ')'"),
        ("a in (b!!(", "unable to parse requirement: found '!', expected: ',' or ')'"),
        ("a,,b", "found ',', expected: identifier after ','"),
        ("a=b,", "found '', expected: identifier after ','"),
        ("a=b,!!(", "unable to parse requirement: found '!', expected: identifier"),
        (
            "-a=b",
            "unable to parse requirement: <nil>: Invalid value: \"-a\": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')",
        ),
        ("a b", "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"),
    ] {
        assert_eq!(Selector::parse(text).unwrap_err().to_string(), wanted, "{text}");
    }
}

#[test]
fn printing_sorts_by_key_and_reads_back() {
    let selector = Selector::parse("z in (c,b,b),!y,a!=1,k").unwrap();
    assert_eq!(selector.to_string(), "a!=1,k,!y,z in (b,c)");
    assert_eq!(Selector::parse(&selector.to_string()).unwrap(), selector);
}

#[test]
fn typed_selectors() {
    let selector = json!({
        "matchLabels": {"app": "web"},
        "matchExpressions": [{"key": "tier", "operator": "NotIn", "values": ["back"]}],
    });
    let selector = Selector::from_label_selector(Some(&selector)).unwrap();
    assert!(selector.matches(&labels(&[("app", "web")])));
    assert!(!selector.matches(&labels(&[("app", "web"), ("tier", "back")])));
    assert!(Selector::from_label_selector(None).unwrap().is_nothing());
    assert!(Selector::from_label_selector(Some(&json!({}))).unwrap().is_everything());
    let odd = json!({"matchExpressions": [{"key": "a", "operator": "Odd"}]});
    assert_eq!(
        Selector::from_label_selector(Some(&odd)).unwrap_err().to_string(),
        "\"Odd\" is not a valid label selector operator"
    );
    assert!(Selector::from_map(json!({}).as_object()).is_nothing());
}

#[test]
fn field_selectors() {
    let selector = FieldSelector::parse("metadata.name=a\\,b,status.phase!=Failed,").unwrap();
    let field = |name: &str| match name {
        "metadata.name" => Some("a,b"),
        _ => None,
    };
    assert!(selector.matches(field));
    assert_eq!(selector.exact("metadata.name"), Some("a,b"));
    assert_eq!(selector.to_string(), "metadata.name=a\\,b,status.phase!=Failed");
    assert_eq!(
        FieldSelector::parse("metadata.name>a").unwrap_err().to_string(),
        "invalid selector: 'metadata.name>a'; can't understand 'metadata.name>a'"
    );
    assert!(FieldSelector::parse("a=b\\x").is_err());
}

proptest! {
    #[test]
    fn what_is_printed_reads_back(
        keys in prop::collection::btree_map("[a-c]/?[a-c]", (0_usize..6, prop::collection::vec("[xy]{0,2}", 1..3)), 0..4)
    ) {
        let requirements: Vec<Requirement> = keys
            .into_iter()
            .filter(|(key, _)| key.len() > 1)
            .map(|(key, (operator, values))| {
                let values: Vec<&str> = values.iter().map(String::as_str).collect();
                match operator {
                    0 => Requirement::new(&key, Operator::Equals, &values[..1]),
                    1 => Requirement::new(&key, Operator::NotEquals, &values[..1]),
                    2 => Requirement::new(&key, Operator::In, &values),
                    3 => Requirement::new(&key, Operator::NotIn, &values),
                    4 => Requirement::new(&key, Operator::Exists, &[]),
                    _ => Requirement::new(&key, Operator::DoesNotExist, &[]),
                }
            })
            .collect();
        let selector = Selector::all(requirements);
        prop_assert_eq!(Selector::parse(&selector.to_string()).unwrap(), selector);
    }

    #[test]
    fn any_text_is_read_or_refused(text in "[a-c =!(),<>in]{0,12}") {
        if let Ok(selector) = Selector::parse(&text) {
            prop_assert_eq!(Selector::parse(&selector.to_string()).unwrap(), selector);
        }
    }
}

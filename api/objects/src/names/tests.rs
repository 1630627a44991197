use super::*;

#[test]
fn labels_and_subdomains() {
    for good in ["a", "0", "a-b", "a0", &"a".repeat(63)] {
        assert!(dns1123_label(good).is_empty(), "{good}");
    }
    for bad in ["", "-a", "a-", "A", "a_b", "é"] {
        assert_eq!(dns1123_label(bad).len(), 1, "{bad}");
    }
    assert_eq!(dns1123_label("a.b"), ["must not contain dots"]);
    assert_eq!(dns1123_label(&"a".repeat(64)), ["must be no more than 63 characters"]);
    assert!(dns1123_subdomain("a.b-c.0").is_empty());
    assert_eq!(
        dns1123_subdomain("Bad_Name"),
        [
            r"a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
        ]
    );
    assert_eq!(dns1035_label("1a").len(), 1);
    assert!(wildcard_dns1123_subdomain("*.a.b").is_empty());
    assert_eq!(wildcard_dns1123_subdomain("a.b").len(), 1);
}

#[test]
fn qualified_names_name_the_part() {
    assert!(qualified_name("example.com/My.Name_1").is_empty());
    assert_eq!(
        qualified_name("-bad-"),
        [
            "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
        ]
    );
    let both = qualified_name("a_b/");
    assert!(both[0].starts_with("prefix part a lowercase"), "{both:?}");
    assert_eq!(both[1], "name part must be non-empty");
    assert!(both[2].starts_with("name part must consist"), "{both:?}");
    assert_eq!(qualified_name("/x"), ["prefix part must be non-empty"]);
    assert!(qualified_name("a/b/c")[0].ends_with("(e.g. 'example.com/MyName')"));
}

#[test]
fn values_keys_and_ports() {
    assert!(label_value("").is_empty());
    assert_eq!(label_value(&"n".repeat(64)), ["must be no more than 63 bytes"]);
    assert_eq!(config_map_key(".."), ["must not be '..'"]);
    assert_eq!(config_map_key("..a"), ["must not start with '..'"]);
    assert_eq!(config_map_key("a/b").len(), 1);
    assert!(env_var_name("a b.c").is_empty());
    assert_eq!(env_var_name("a=b").len(), 1);
    assert!(port_name("http-2").is_empty());
    assert_eq!(port_name("12"), ["must contain at least one letter (a-z)"]);
    assert_eq!(port_number(0), ["must be between 1 and 65535, inclusive"]);
    assert_eq!(path_segment("a/b%"), ["may not contain '/'", "may not contain '%'"]);
}

#[test]
fn a_generated_name_may_end_its_prefix_with_a_dash() {
    assert!(name_is_dns_label("web-", true).is_empty());
    assert_eq!(name_is_dns_label("web-", false).len(), 1);
    assert_eq!(generated_name(&"x".repeat(70), "abcde").len(), 63);
    assert_eq!(generated_name("web-", "abcde"), "web-abcde");
}

use super::*;

fn choose(header: &str, offers: Offers) -> String {
    let mut headers = HeaderMap::new();
    if !header.is_empty() {
        headers.insert(http::header::ACCEPT, header.parse().unwrap());
    }
    match accept(&headers, None, offers, true) {
        Ok(form) => format!("{:?} {:?}", form.encoding, form.shape),
        Err(error) => error.code.to_string(),
    }
}

#[test]
fn accept_headers() {
    let table = "application/json;as=Table;v=v1;g=meta.k8s.io";
    let cases = [
        ("", Offers::Object, "Json Whole"),
        ("*/*", Offers::Object, "Json Whole"),
        ("application/xml", Offers::Object, "406"),
        ("application/*", Offers::Object, "406"),
        ("application/yaml", Offers::Object, "Yaml Whole"),
        ("application/vnd.kubernetes.protobuf, */*", Offers::Object, "Protobuf Whole"),
        ("application/json;q=0.5, application/yaml;q=0.9", Offers::Object, "Yaml Whole"),
        (table, Offers::List, "Json Table"),
        (table, Offers::Whole, "406"),
        (
            "application/json;as=Table;v=v1;g=meta.k8s.io,application/json",
            Offers::Whole,
            "Json Whole",
        ),
        ("application/json;as=Nope;v=v1;g=meta.k8s.io", Offers::List, "406"),
        (
            "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io",
            Offers::List,
            "Json PartialList",
        ),
        ("application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io", Offers::List, "406"),
        (
            "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io",
            Offers::Watch,
            "Json Partial",
        ),
    ];
    for (header, offers, want) in cases {
        assert_eq!(choose(header, offers), want, "{header:?}");
    }
}

#[test]
fn content_types() {
    let mut headers = HeaderMap::new();
    assert_eq!(body_encoding(&headers, true).unwrap(), Encoding::Json);
    for (text, want) in [
        ("application/json; charset=utf-8", Some(Encoding::Json)),
        ("application/yaml", Some(Encoding::Yaml)),
        ("application/xml", None),
        ("application/merge-patch+json", None),
    ] {
        headers.insert(http::header::CONTENT_TYPE, text.parse().unwrap());
        assert_eq!(body_encoding(&headers, true).ok(), want, "{text}");
    }
}

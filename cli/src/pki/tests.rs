use std::time::SystemTime;

use super::*;

fn admin() -> Leaf {
    Leaf {
        common_name: "kubernetes-admin".into(),
        organizations: vec!["system:masters".into()],
        names: vec![],
    }
}

fn server(names: &[&str]) -> Leaf {
    Leaf {
        common_name: "skeg".into(),
        organizations: vec![],
        names: names.iter().map(ToString::to_string).collect(),
    }
}

#[test]
fn leaves_are_kept_while_they_serve() {
    let folder = tempfile::tempdir().expect("a folder");
    let authority = Authority::open(folder.path()).expect("made");
    let now = SystemTime::now();
    let first = authority.leaf("admin", &admin(), now).expect("made");
    let again = authority.leaf("admin", &admin(), now).expect("kept");
    assert_eq!(first.certificate_pem, again.certificate_pem);

    let late = authority.leaf("admin", &admin(), now + DAY * 300).expect("renewed");
    assert_ne!(first.certificate_pem, late.certificate_pem, "little of the year was left");
}

#[test]
fn other_names_make_another_leaf() {
    let folder = tempfile::tempdir().expect("a folder");
    let authority = Authority::open(folder.path()).expect("made");
    let now = SystemTime::now();
    let one = authority.leaf("server", &server(&["localhost", "10.0.0.1"]), now).expect("made");
    let same = authority.leaf("server", &server(&["10.0.0.1", "localhost"]), now).expect("kept");
    assert_eq!(one.certificate_pem, same.certificate_pem);
    let moved = authority.leaf("server", &server(&["localhost", "10.0.0.2"]), now).expect("made");
    assert_ne!(one.certificate_pem, moved.certificate_pem, "the address has changed");
}

#[test]
fn the_authority_outlives_the_process() {
    let folder = tempfile::tempdir().expect("a folder");
    let first = Authority::open(folder.path()).expect("made").certificate_pem().to_string();
    let second = Authority::open(folder.path()).expect("loaded");
    assert_eq!(first, second.certificate_pem());
}

#[test]
fn a_damaged_authority_is_named_and_not_replaced() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("ca.crt"), "nonsense").expect("written");
    std::fs::write(folder.path().join("ca.key"), "nonsense").expect("written");
    let Err(error) = Authority::open(folder.path()) else { panic!("it should be refused") };
    assert!(format!("{error:#}").contains("use the authority in"), "{error:#}");
    assert_eq!(std::fs::read_to_string(folder.path().join("ca.crt")).expect("kept"), "nonsense");
}

#[test]
fn join_tokens_survive_printing() {
    let folder = tempfile::tempdir().expect("a folder");
    let authority = Authority::open(folder.path()).expect("made");
    let token =
        JoinToken::new(authority.certificate_pem(), "abcdef", "0123456789abcdef").expect("a token");
    let parsed: JoinToken = token.to_string().parse().expect("parsed");
    assert_eq!(parsed, token);
    for damaged in ["", "skeg1.x.abcdef.0123456789abcdef", "abcdef.0123456789abcdef"] {
        assert!(damaged.parse::<JoinToken>().is_err(), "{damaged:?}");
    }
}

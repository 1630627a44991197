use proptest::prelude::*;

use super::*;

fn canonical(text: &str) -> String {
    Quantity::parse(text).map_or_else(|error| error.to_string(), |quantity| quantity.to_string())
}

#[test]
fn canonical_texts() {
    for (text, wanted) in [
        ("0", "0"),
        ("00", "0"),
        ("0.5", "500m"),
        (".5", "500m"),
        ("1.", "1"),
        ("1000m", "1"),
        ("1500m", "1500m"),
        ("0.1", "100m"),
        ("1000", "1k"),
        ("1024Mi", "1Gi"),
        ("1.5Gi", "1536Mi"),
        ("0.1Gi", "107374182400m"),
        ("1000Ki", "1000Ki"),
        ("1Ki", "1Ki"),
        ("0.5Ki", "512"),
        ("100Mi", "100Mi"),
        ("128974848", "128974848"),
        ("129e6", "129e6"),
        ("1e3", "1e3"),
        ("1E3", "1e3"),
        ("100e-3", "100e-3"),
        ("-1", "-1"),
        ("+1", "1"),
        ("1n", "1n"),
        ("0.1n", "1n"),
        ("1.0000000001", "1000000001n"),
        ("0.0000000001Ki", "103n"),
        ("5E", "5E"),
        ("1e100", "9223372036854775807e0"),
        ("99999999999999999999", "9223372036854775807"),
        ("123456789012.1234567891", "123456789012123456790n"),
        ("0.00000000000000000000000000000000000000000000001", "1n"),
        ("1e-2000000000", "1e-9"),
        ("0e2000000000", "0"),
        ("8Ei", "9223372036854775807"),
    ] {
        let wanted = wanted.strip_suffix("e0").unwrap_or(wanted);
        assert_eq!(canonical(text), wanted, "{text}");
    }
}

#[test]
fn malformed() {
    for text in ["", "a", "1 ", "1.2.3", "-", "1x", "1_0", "+-1"] {
        assert_eq!(Quantity::parse(text), Err(QuantityError::Format), "{text}");
    }
    for text in ["1ki", "1K", "1mm", "1e", "1Mi3"] {
        assert_eq!(Quantity::parse(text), Err(QuantityError::Suffix), "{text}");
    }
}

#[test]
fn rounding_is_away_from_zero() {
    let quantity = Quantity::parse("1.0005").unwrap();
    assert_eq!((quantity.value(), quantity.milli_value()), (2, 1001));
    let quantity = Quantity::parse("-1.0005").unwrap();
    assert_eq!((quantity.value(), quantity.milli_value()), (-2, -1001));
}

#[test]
fn arithmetic_keeps_the_first_format() {
    let a = Quantity::parse("1Gi").unwrap();
    let b = Quantity::parse("1G").unwrap();
    assert!(a > b);
    assert_eq!(a.add(&a).to_string(), "2Gi");
    assert_eq!(Quantity::ZERO.add(&a).to_string(), "1Gi");
    assert_eq!(a.sub(&a).to_string(), "0");
}

proptest! {
    #[test]
    fn sums_and_differences_undo_each_other(a in 0_i64..1 << 50, b in 0_i64..1 << 50) {
        let (a, b) = (Quantity::from_millis(a), Quantity::from_units(b, Format::BinarySi));
        prop_assert_eq!(a.add(&b).sub(&b), a);
        prop_assert_eq!(a.add(&b), b.add(&a));
        prop_assert_eq!(a.add(&b) >= a.max(b), true);
    }

    #[test]
    fn printing_and_parsing_again_keeps_the_value(
        digits in 0_u64..1_000_000_000_000,
        fraction in 0_u32..1_000_000,
        suffix in prop::sample::select(vec!["", "m", "k", "M", "Ki", "Mi", "Gi", "e3", "u", "n"]),
        negative in any::<bool>(),
    ) {
        let text = format!("{}{digits}.{fraction}{suffix}", if negative { "-" } else { "" });
        let once = Quantity::parse(&text).unwrap();
        let twice = Quantity::parse(&once.to_string()).unwrap();
        prop_assert_eq!(once, twice);
        prop_assert_eq!(once.to_string(), twice.to_string());
    }
}

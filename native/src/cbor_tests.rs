use super::*;

fn text(value: &str) -> Value<'_> {
    Value::Text(Cow::Borrowed(value))
}

#[test]
fn integers_reach_the_ends_of_i64_and_no_further() {
    for (bytes, value) in [
        (&b"\x00"[..], Value::Int(0)),
        (b"\x18\x18", Value::Int(24)),
        (b"\x20", Value::Int(-1)),
        (
            b"\x1b\x7f\xff\xff\xff\xff\xff\xff\xff",
            Value::Int(i64::MAX),
        ),
        (
            b"\x3b\x7f\xff\xff\xff\xff\xff\xff\xff",
            Value::Int(i64::MIN),
        ),
        (b"\x1b\x80\x00\x00\x00\x00\x00\x00\x00", Value::BigInt),
        (b"\x3b\x80\x00\x00\x00\x00\x00\x00\x00", Value::BigInt),
    ] {
        assert_eq!(decode(bytes), Ok(value), "{bytes:?}");
    }
}

#[test]
fn longer_forms_than_needed_are_errors() {
    for bytes in [
        &b"\x18\x17"[..],
        b"\x19\x00\xff",
        b"\x1a\x00\x00\xff\xff",
        b"\x1b\x00\x00\x00\x00\xff\xff\xff\xff",
        b"\x78\x01a",
        b"\x58\x00",
        b"\x98\x00",
        b"\xb8\x00",
        b"\xd9\x00\x2a\x41\x00",
    ] {
        assert_eq!(decode(bytes), Err(CborError::NotMinimal), "{bytes:?}");
    }
}

#[test]
fn floats_of_every_width_are_read() {
    for (bytes, value) in [
        (&b"\xf9\x3e\x00"[..], 1.5),
        (b"\xf9\x00\x01", 2_f64.powi(-24)),
        (b"\xf9\xfb\xff", -65504.0),
        (b"\xfa\x3f\xc0\x00\x00", 1.5),
        (b"\xfb\x3f\xb9\x99\x99\x99\x99\x99\x9a", 0.1),
    ] {
        assert_eq!(decode(bytes), Ok(Value::Float(value)), "{bytes:?}");
    }
    for bytes in [
        &b"\xf9\x7c\x00"[..],
        b"\xf9\x7e\x00",
        b"\xfa\x7f\x80\x00\x00",
        b"\xfb\x7f\xf8\x00\x00\x00\x00\x00\x00",
        b"\xfb\xff\xf0\x00\x00\x00\x00\x00\x00",
    ] {
        assert_eq!(decode(bytes), Err(CborError::NotFinite), "{bytes:?}");
    }
}

#[test]
fn simple_values() {
    assert_eq!(decode(b"\xf4"), Ok(Value::Bool(false)));
    assert_eq!(decode(b"\xf5"), Ok(Value::Bool(true)));
    assert_eq!(decode(b"\xf6"), Ok(Value::Null));
    assert_eq!(decode(b"\xf7"), Ok(Value::Undefined));
    for bytes in [&b"\xe0"[..], b"\xf3", b"\xf8\x20", b"\xfc"] {
        assert_eq!(decode(bytes), Err(CborError::Simple), "{bytes:?}");
    }
}

#[test]
fn indefinite_lengths_are_errors() {
    for bytes in [
        &b"\x5f\xff"[..],
        b"\x7f\xff",
        b"\x9f\xff",
        b"\xbf\xff",
        b"\xff",
        b"\x1c",
    ] {
        assert_eq!(decode(bytes), Err(CborError::Indefinite), "{bytes:?}");
    }
}

#[test]
fn claims_beyond_the_input_are_errors_before_any_allocation() {
    for bytes in [
        &b""[..],
        b"\x61",
        b"\x7b\x7f\xff\xff\xff\xff\xff\xff\xff",
        b"\x5b\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\xbb\x7f\xff\xff\xff\xff\xff\xff\xff",
        b"\x9a\x00\x01\x00\x00\xf6",
        b"\x82\xf6",
        b"\xa1\x61a",
        b"\xfb\x00",
    ] {
        assert_eq!(decode(bytes), Err(CborError::Truncated), "{bytes:?}");
    }
}

#[test]
fn text_is_read_as_a_browser_reads_it() {
    assert_eq!(decode(b"\x64\xef\xbb\xbfa"), Ok(text("a")));
    assert_eq!(decode(b"\x67a\xef\xbb\xbfbcd"), Ok(text("a\u{feff}bcd")));
    // Maximal subparts: a cut sequence is one U+FFFD, stray bytes are one each.
    assert_eq!(decode(b"\x63\xe2\x82a"), Ok(text("\u{fffd}a")));
    assert_eq!(decode(b"\x62\xff\xfe"), Ok(text("\u{fffd}\u{fffd}")));
    assert_eq!(
        decode(b"\x63\xed\xa0\x80"),
        Ok(text("\u{fffd}\u{fffd}\u{fffd}"))
    );
    let Ok(Value::Text(Cow::Borrowed("abc"))) = decode(b"\x63abc") else {
        panic!("valid text must be borrowed");
    };
}

#[test]
fn keys_keep_their_order_and_must_differ() {
    let map = decode(b"\xa2\x61b\x01\x61a\x02").unwrap();
    let keys: Vec<_> = map
        .as_map()
        .unwrap()
        .iter()
        .map(|(key, _)| key.as_ref())
        .collect();
    assert_eq!(keys, ["b", "a"]);
    assert_eq!(map.get("a"), Some(&Value::Int(2)));
    assert_eq!(map.get("c"), None);
    for bytes in [
        &b"\xa2\x61a\x01\x61a\x02"[..],
        b"\xa3\x61a\x01\x61b\x02\x61a\x03",
        // Equal only after the byte order mark is dropped.
        b"\xa2\x64\xef\xbb\xbfa\x01\x61a\x02",
    ] {
        assert_eq!(decode(bytes), Err(CborError::DuplicateKey), "{bytes:?}");
    }
    assert_eq!(decode(b"\xa1\x01\x01"), Err(CborError::KeyNotText));
    assert_eq!(decode(b"\xa1\x41a\x01"), Err(CborError::KeyNotText));
}

#[test]
fn proto_is_an_error_outside_and_vanishes_inside() {
    assert_eq!(decode(b"\xa1\x69__proto__\x01"), Err(CborError::Proto));
    let inner = decode(b"\xa1\x61a\xa2\x69__proto__\xa0\x61b\x01").unwrap();
    assert_eq!(
        inner.get("a"),
        Some(&Value::Map(vec![(Cow::Borrowed("b"), Value::Int(1))]))
    );
    // Inside a list at the top it is an inner map.
    assert_eq!(
        decode(b"\x81\xa1\x69__proto__\x01"),
        Ok(Value::List(vec![Value::Map(vec![])]))
    );
}

#[test]
fn links_must_be_whole_cids() {
    let mut bytes = b"\xd8\x2a\x58\x25\x00\x01\x71\x12\x20".to_vec();
    bytes.extend([7; 32]);
    let link = decode(&bytes).unwrap();
    assert_eq!(link.as_link().unwrap().codec(), 0x71);
    let mut without_zero = bytes.clone();
    without_zero[4] = 1;
    assert_eq!(decode(&without_zero), Err(CborError::Cid));
    for bytes in [
        &b"\xd8\x2a\x40"[..],
        b"\xd8\x2a\x41\x00",
        b"\xd8\x2a\x61a",
        b"\xd8\x2a\x00",
    ] {
        assert_eq!(decode(bytes), Err(CborError::Cid), "{bytes:?}");
    }
    assert_eq!(decode(b"\xd8\x2b\x00"), Err(CborError::Tag));
    assert_eq!(decode(b"\xc2\x41\x00"), Err(CborError::Tag));
}

#[test]
fn depth_is_limited() {
    let mut bytes = vec![0x81; MAX_DEPTH];
    bytes.push(0xf6);
    assert!(decode(&bytes).is_ok());
    bytes.insert(0, 0x81);
    assert_eq!(decode(&bytes), Err(CborError::Depth));
    assert_eq!(decode(&vec![0x81; 1 << 20]), Err(CborError::Depth));
}

#[test]
fn the_whole_input_is_one_item() {
    assert_eq!(decode(b"\x00\x00"), Err(CborError::Trailing));
    assert_eq!(decode_prefix(b"\x61a\x00"), Ok((text("a"), 2)));
    assert_eq!(decode_record(b"\x80"), Err(CborError::NotAMap));
    assert!(decode_record(b"\xa0").is_ok());
}

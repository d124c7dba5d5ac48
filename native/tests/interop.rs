//! Interoperability vectors of pure functions that Python never calls.
//!
//! The data lies beside the checkout, in `../shared`. Without it these tests pass with a
//! word, unless `CI=true`.

use std::path::Path;

use _native::mst::{common_prefix, is_valid_key, key_height};

/// The vector file, or nothing where the data is not here.
fn vectors(name: &str) -> Option<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../shared/interop/vectors/mst")
        .join(name);
    match std::fs::read_to_string(&path) {
        Ok(text) => Some(text),
        Err(error) if std::env::var("CI").as_deref() == Ok("true") => {
            panic!("{}: {error}", path.display())
        }
        Err(_) => {
            eprintln!("skipped: {} is not here", path.display());
            None
        }
    }
}

fn cases(name: &str) -> Option<Vec<serde_json::Value>> {
    vectors(name).map(|text| serde_json::from_str(&text).unwrap())
}

#[test]
fn key_heights() {
    let Some(cases) = cases("key_heights.json") else {
        return;
    };
    assert!(cases.len() >= 9);
    for case in cases {
        let key = case["key"].as_str().unwrap();
        let height = u64::from(key_height(key.as_bytes()));
        assert_eq!(Some(height), case["height"].as_u64(), "{key}");
    }
}

#[test]
fn common_prefixes() {
    let Some(cases) = cases("common_prefix.json") else {
        return;
    };
    assert!(cases.len() >= 13);
    for case in cases {
        let [left, right] = ["left", "right"].map(|side| case[side].as_str().unwrap());
        let length = common_prefix(left.as_bytes(), right.as_bytes());
        assert_eq!(Some(length as u64), case["len"].as_u64(), "{case}");
    }
}

#[test]
fn example_keys() {
    // A letter, the height, a slash, six digits; in key order.
    let Some(text) = vectors("example_keys.txt") else {
        return;
    };
    let keys: Vec<&str> = text.lines().collect();
    assert!(keys.len() >= 100);
    assert!(keys.is_sorted());
    for key in keys {
        assert!(is_valid_key(key.as_bytes()), "{key}");
        let height = key_height(key.as_bytes()).to_string();
        assert_eq!(key.get(1..2), Some(height.as_str()), "{key}");
    }
}

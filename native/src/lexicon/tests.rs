use std::borrow::Cow;

use serde_json::{json, Value as Json};

use super::Catalog;
use crate::cbor::Value;

/// A catalog with the record `com.example.thing`, whose only property is `field`.
fn catalog(field: &Json) -> Catalog {
    let document = json!({
        "lexicon": 1,
        "id": "com.example.thing",
        "defs": {
            "main": {
                "type": "record",
                "key": "any",
                "record": {"type": "object", "properties": {"field": field}},
            },
            "part": {
                "type": "object",
                "required": ["name"],
                "properties": {"name": {"type": "string"}, "part": {"type": "ref", "ref": "#part"}},
            },
            "flag": {"type": "token"},
        },
    });
    Catalog::compile(&[document]).unwrap()
}

fn text(value: &str) -> Value<'_> {
    Value::Text(Cow::Borrowed(value))
}

fn map<'a>(entries: Vec<(&'a str, Value<'a>)>) -> Value<'a> {
    let entries = entries.into_iter();
    Value::Map(
        entries
            .map(|(key, value)| (Cow::Borrowed(key), value))
            .collect(),
    )
}

/// The verdict on a record whose `field` is `value`.
fn verdict(field: &Json, value: Value) -> Result<(), String> {
    let record = map(vec![("$type", text("com.example.thing")), ("field", value)]);
    catalog(field).validate_record("com.example.thing", &record)
}

fn accepts(field: &Json, value: Value) -> bool {
    verdict(field, value).is_ok()
}

#[test]
fn an_error_names_reason_place_and_value() {
    let list = json!({"type": "array", "items": {"type": "string", "format": "datetime"}});
    let error = verdict(
        &list,
        Value::List(vec![text("1985-04-12T23:20:50Z"), text("yesterday")]),
    );
    assert_eq!(
        error.unwrap_err(),
        "invalid datetime at $.field[1] (got \"yesterday\")"
    );
    let part = json!({"type": "ref", "ref": "#part"});
    let error = verdict(&part, map(vec![]));
    assert_eq!(
        error.unwrap_err(),
        "missing required key \"name\" at $.field"
    );
    let short = json!({"type": "string", "maxLength": 3});
    let error = verdict(&short, text("long text"));
    assert_eq!(
        error.unwrap_err(),
        "expected at most 3 bytes at $.field (got 9)"
    );
}

#[test]
fn integers_are_those_that_javascript_holds_exactly() {
    let integer = json!({"type": "integer"});
    let limit = 1_i64 << 53;
    for value in [
        Value::Int(limit - 1),
        Value::Int(1 - limit),
        Value::Float(-0.0),
    ] {
        assert!(accepts(&integer, value.clone()), "{value:?}");
    }
    assert!(accepts(&integer, Value::Float(9_007_199_254_740_991.0)));
    for value in [
        Value::Int(limit),
        Value::Int(-limit),
        Value::Float(0.5),
        Value::BigInt,
    ] {
        assert!(!accepts(&integer, value.clone()), "{value:?}");
    }
    assert!(!accepts(&integer, Value::Float(9_007_199_254_740_992.0)));
    assert!(!accepts(&integer, text("1")));
}

#[test]
fn integers_stay_within_their_bounds() {
    let integer = json!({"type": "integer", "minimum": 2, "maximum": 3});
    let accepted: Vec<i64> = (0..6)
        .filter(|n| accepts(&integer, Value::Int(*n)))
        .collect();
    assert_eq!(accepted, [2, 3]);
}

#[test]
fn enumerations_and_constants_leave_nothing_else() {
    let one_of = json!({"type": "string", "enum": ["a", "b"], "maxLength": 0});
    assert!(accepts(&one_of, text("b")));
    assert!(!accepts(&one_of, text("c")));
    let constant = json!({"type": "integer", "const": 4});
    assert!(accepts(&constant, Value::Float(4.0)));
    assert!(!accepts(&constant, Value::Int(5)));
    let impossible = json!({"type": "boolean", "const": true, "enum": [false]});
    assert!(!accepts(&impossible, Value::Bool(true)));
    let known = json!({"type": "string", "knownValues": ["a"]});
    assert!(accepts(&known, text("other")));
}

#[test]
fn graphemes_are_clusters_and_bytes_are_utf8() {
    let family = "👩‍👩‍👦‍👦";
    let rule = json!({"type": "string", "minGraphemes": 2, "maxGraphemes": 3});
    let counts: Vec<usize> = (0..6)
        .filter(|n| accepts(&rule, text(&family.repeat(*n))))
        .collect();
    assert_eq!(counts, [2, 3]);
    let rule = json!({"type": "string", "minLength": 3, "maxLength": 4});
    assert!(accepts(&rule, text("éé")));
    assert!(!accepts(&rule, text("é")));
    assert!(!accepts(&rule, text("ééé")));
}

#[test]
fn optional_is_not_nullable() {
    let document = json!({"lexicon": 1, "id": "com.example.thing", "defs": {"main": {
        "type": "record",
        "key": "any",
        "record": {
            "type": "object",
            "required": ["nullable"],
            "nullable": ["nullable"],
            "properties": {"nullable": {"type": "string"}, "optional": {"type": "string"}},
        },
    }}});
    let catalog = Catalog::compile(&[document]).unwrap();
    let verdict = |key, value| {
        let kind = ("$type", text("com.example.thing"));
        let record = map(vec![kind, ("nullable", Value::Null), (key, value)]);
        catalog.validate_record("com.example.thing", &record)
    };
    assert!(verdict("other", Value::Null).is_ok());
    assert!(verdict("optional", text("a")).is_ok());
    assert!(verdict("optional", Value::Null).is_err());
    assert!(verdict("optional", Value::Undefined).is_err());
    let absent = map(vec![("$type", text("com.example.thing"))]);
    assert!(catalog
        .validate_record("com.example.thing", &absent)
        .is_err());
}

#[test]
fn unions_tell_their_variants_by_type() {
    let open = json!({"type": "union", "refs": ["#part"]});
    let closed = json!({"type": "union", "refs": ["#part"], "closed": true});
    let part = || {
        map(vec![
            ("$type", text("com.example.thing#part")),
            ("name", text("n")),
        ])
    };
    let broken = || map(vec![("$type", text("com.example.thing#part"))]);
    let other = || map(vec![("$type", text("com.example.other"))]);
    assert!(accepts(&open, part()) && accepts(&closed, part()));
    assert!(!accepts(&open, broken()) && !accepts(&closed, broken()));
    assert!(accepts(&open, other()) && !accepts(&closed, other()));
    for value in [map(vec![]), map(vec![("$type", Value::Null)]), text("x")] {
        assert!(!accepts(&open, value.clone()), "{value:?}");
    }
}

#[test]
fn a_recursive_definition_ends_with_its_value() {
    let mut value = map(vec![("name", text("inner"))]);
    for _ in 0..200 {
        value = map(vec![("name", text("outer")), ("part", value)]);
    }
    let part = json!({"type": "ref", "ref": "com.example.thing#part"});
    assert!(accepts(&part, value.clone()));
    for _ in 0..200 {
        value = map(vec![("name", text("outer")), ("part", value)]);
    }
    let error = verdict(&part, value).unwrap_err();
    assert!(
        error.starts_with("nested too deeply at $.field.part.part"),
        "{error}"
    );
}

#[test]
fn tokens_are_their_own_names() {
    let token = json!({"type": "ref", "ref": "#flag"});
    assert!(accepts(&token, text("com.example.thing#flag")));
    assert!(!accepts(&token, text("com.example.thing#other")));
}

#[test]
fn unknown_is_a_map_of_plain_data() {
    let unknown = json!({"type": "unknown"});
    assert!(accepts(
        &unknown,
        map(vec![("a", Value::List(vec![Value::Null, Value::Int(1)]))])
    ));
    for value in [
        Value::Bytes(b"a"),
        Value::Null,
        map(vec![("a", Value::Float(0.5))]),
    ] {
        assert!(!accepts(&unknown, value.clone()), "{value:?}");
    }
}

#[test]
fn a_record_must_name_its_collection() {
    let catalog = catalog(&json!({"type": "boolean"}));
    let verdict = |record: Value| catalog.validate_record("com.example.thing", &record);
    assert!(verdict(map(vec![("$type", text("com.example.thing"))])).is_ok());
    assert_eq!(
        verdict(map(vec![])).unwrap_err(),
        "missing required key \"$type\" at $"
    );
    assert!(verdict(map(vec![("$type", text("com.example.other"))])).is_err());
    assert!(verdict(Value::Null).is_err());
    assert!(catalog
        .validate_record("com.example.other", &map(vec![]))
        .is_err());
    assert!(catalog
        .validate_record("com.example.thing#part", &map(vec![]))
        .is_err());
}

#[test]
fn references_must_lead_somewhere() {
    let document = |field: Json| {
        json!({"lexicon": 1, "id": "com.example.thing", "defs": {
            "part": {"type": "object", "properties": {"field": field}},
        }})
    };
    let error = |field: Json| {
        Catalog::compile(&[document(field)])
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        error(json!({"type": "ref", "ref": "com.example.other"})),
        "lexicon com.example.thing#part: nothing is named \"com.example.other\" (property \"field\")"
    );
    assert!(error(json!({"type": "sausage"})).contains("unknown type \"sausage\""));
    assert!(error(json!({"type": "string", "format": "colour"})).contains("unknown format"));
}

#[test]
fn definitions_are_nested_to_a_limit() {
    let mut field = json!({"type": "boolean"});
    for _ in 0..40 {
        field = json!({"type": "array", "items": field});
    }
    let document = json!({"lexicon": 1, "id": "com.example.thing", "defs": {"main": field}});
    let error = Catalog::compile(&[document]).unwrap_err();
    assert!(error.to_string().contains("nested too deeply"));
}

#[test]
fn two_documents_cannot_define_one_name() {
    let document =
        json!({"lexicon": 1, "id": "com.example.thing", "defs": {"a": {"type": "token"}}});
    let error = Catalog::compile(&[document.clone(), document]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "lexicon com.example.thing#a: defined twice"
    );
}

//! From lexicon documents (JSON) to rules.
//!
//! Definitions of methods, subscriptions and permission sets are recognised and passed
//! over: records cannot refer to them.

use std::collections::HashMap;

use serde_json::{Map, Value as Json};

use super::scalars::{blob, check_record_key, range, scalar, text, texts};
use super::{Catalog, Literal, ObjectRule, Property, Rule, RuleId, TypeName};
use crate::syntax::is_nsid;

/// How deep types may nest inside one definition.
const MAX_DEPTH: usize = 32;

/// A document that is no lexicon, or refers to what is not there.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("lexicon {document}: {reason}")]
pub struct LexiconError {
    /// The document's id with `#definition`, or its position if it has no id.
    pub document: String,
    pub reason: String,
}

pub(super) type Fallible<T> = Result<T, String>;
pub(super) type Fields = Map<String, Json>;

impl Catalog {
    /// Compiles the documents together; each reference must lead to one of them.
    pub fn compile(documents: &[Json]) -> Result<Self, LexiconError> {
        let documents = documents
            .iter()
            .enumerate()
            .map(|(at, json)| Document::read(at, json))
            .collect::<Result<Vec<_>, _>>()?;
        let mut compiler = Compiler::default();
        for document in &documents {
            compiler.name_definitions(document)?;
        }
        for document in &documents {
            compiler.compile_definitions(document)?;
        }
        compiler.check_unions()?;
        Ok(Self {
            rules: compiler.rules,
            records: compiler.records,
        })
    }

    /// Compiles a JSON array of documents.
    pub fn from_json(text: &[u8]) -> Result<Self, LexiconError> {
        let documents: Vec<Json> = serde_json::from_slice(text).map_err(|error| LexiconError {
            document: String::from("array"),
            reason: error.to_string(),
        })?;
        Self::compile(&documents)
    }
}

struct Document<'a> {
    id: &'a str,
    definitions: &'a Fields,
}

impl<'a> Document<'a> {
    fn read(at: usize, json: &'a Json) -> Result<Self, LexiconError> {
        let id = json.get("id").and_then(Json::as_str);
        let error = |reason: &str| LexiconError {
            document: id.map_or_else(|| format!("number {at}"), String::from),
            reason: String::from(reason),
        };
        if json.get("lexicon").and_then(Json::as_i64) != Some(1) {
            return Err(error("the field \"lexicon\" must be 1"));
        }
        let id = id
            .filter(|id| is_nsid(id))
            .ok_or_else(|| error("the field \"id\" must be an NSID"))?;
        let definitions = json
            .get("defs")
            .and_then(Json::as_object)
            .ok_or_else(|| error("the field \"defs\" must be an object"))?;
        Ok(Self { id, definitions })
    }

    /// The full name of a definition, as `$type` holds it.
    fn name_of(&self, definition: &str) -> String {
        if definition == "main" {
            String::from(self.id)
        } else {
            format!("{}#{definition}", self.id)
        }
    }
}

#[derive(Default)]
struct Compiler {
    rules: Vec<Rule>,
    /// Full name to rule, of every definition that can be referred to.
    named: HashMap<String, RuleId>,
    records: HashMap<String, RuleId>,
}

impl Compiler {
    fn name_definitions(&mut self, document: &Document) -> Result<(), LexiconError> {
        for definition in document.definitions.keys() {
            let name = document.name_of(definition);
            let id = self.reserve();
            if self.named.insert(name.clone(), id).is_some() {
                return Err(LexiconError {
                    document: name,
                    reason: String::from("defined twice"),
                });
            }
        }
        Ok(())
    }

    fn compile_definitions(&mut self, document: &Document) -> Result<(), LexiconError> {
        for (definition, json) in document.definitions {
            let name = document.name_of(definition);
            self.definition(document, definition, &name, json)
                .map_err(|reason| LexiconError {
                    document: name,
                    reason,
                })?;
        }
        Ok(())
    }

    fn definition(
        &mut self,
        document: &Document,
        definition: &str,
        name: &str,
        json: &Json,
    ) -> Fallible<()> {
        let fields = json.as_object().ok_or("a definition must be an object")?;
        let kind = text(fields, "type")?.ok_or("the field \"type\" is missing")?;
        let rule = match kind {
            "record" if definition == "main" => {
                let record = fields
                    .get("record")
                    .and_then(Json::as_object)
                    .filter(|record| record.get("type").and_then(Json::as_str) == Some("object"))
                    .ok_or("the field \"record\" must be of type object")?;
                check_record_key(fields)?;
                let type_name = TypeName::Required(String::from(name));
                self.object(document, record, type_name, 0)?
            }
            "query" | "procedure" | "subscription" | "permission-set" if definition == "main" => {
                self.named.remove(name);
                return Ok(());
            }
            "record" | "query" | "procedure" | "subscription" | "permission-set" => {
                return Err(format!("only \"main\" may be of type {kind}"));
            }
            "unknown" | "ref" | "union" => return Err(format!("type {kind} cannot be named")),
            "token" => Rule::OneOf(vec![Literal::Text(String::from(name))]),
            "object" => {
                let type_name = TypeName::Optional(String::from(name));
                self.object(document, fields, type_name, 0)?
            }
            _ => self.rule(document, fields, 0)?,
        };
        let id = *self.named.get(name).ok_or("not named")?;
        if kind == "record" {
            self.records.insert(String::from(name), id);
        }
        self.set(id, rule);
        Ok(())
    }

    fn rule(&mut self, document: &Document, fields: &Fields, depth: usize) -> Fallible<Rule> {
        if depth > MAX_DEPTH {
            return Err(String::from("types are nested too deeply"));
        }
        let kind = text(fields, "type")?.ok_or("the field \"type\" is missing")?;
        Ok(match kind {
            "boolean" | "integer" | "string" => scalar(kind, fields)?,
            "bytes" => Rule::Bytes(range(fields, "minLength", "maxLength")?),
            "cid-link" => Rule::Link,
            "unknown" => Rule::Unknown,
            "blob" => Rule::Blob(blob(fields)?),
            "object" => self.object(document, fields, TypeName::Free, depth)?,
            "array" => {
                let items = fields
                    .get("items")
                    .and_then(Json::as_object)
                    .ok_or("an array needs the object \"items\"")?;
                Rule::List {
                    items: self.contained(document, items, depth + 1)?,
                    length: range(fields, "minLength", "maxLength")?,
                }
            }
            "union" => {
                let references = texts(fields, "refs")?.ok_or("a union needs \"refs\"")?;
                let variants = references
                    .iter()
                    .map(|reference| self.resolve(document, reference))
                    .collect::<Fallible<Vec<_>>>()?;
                let closed = fields.get("closed").and_then(Json::as_bool) == Some(true);
                Rule::Union { variants, closed }
            }
            _ => return Err(format!("unknown type {kind:?}")),
        })
    }

    /// The rule of a property or item: a reference leads to an existing rule.
    fn contained(
        &mut self,
        document: &Document,
        fields: &Fields,
        depth: usize,
    ) -> Fallible<RuleId> {
        if text(fields, "type")? == Some("ref") {
            let reference = text(fields, "ref")?.ok_or("a reference needs \"ref\"")?;
            return Ok(self.resolve(document, reference)?.1);
        }
        let rule = self.rule(document, fields, depth)?;
        let id = self.reserve();
        self.set(id, rule);
        Ok(id)
    }

    fn object(
        &mut self,
        document: &Document,
        fields: &Fields,
        type_name: TypeName,
        depth: usize,
    ) -> Fallible<Rule> {
        let none = Fields::new();
        let declared = match fields.get("properties") {
            None => &none,
            Some(json) => json.as_object().ok_or("\"properties\" must be an object")?,
        };
        let required = texts(fields, "required")?.unwrap_or_default();
        let nullable = texts(fields, "nullable")?.unwrap_or_default();
        for key in required.iter().chain(&nullable) {
            if !declared.contains_key(*key) {
                return Err(format!("the property {key:?} is not declared"));
            }
        }
        let mut properties = Vec::with_capacity(declared.len());
        for (key, json) in declared {
            let fields = json
                .as_object()
                .ok_or_else(|| format!("the property {key:?} must be an object"))?;
            let rule = self
                .contained(document, fields, depth + 1)
                .map_err(|reason| format!("{reason} (property {key:?})"))?;
            properties.push(Property {
                key: key.clone(),
                rule,
                required: required.contains(&key.as_str()),
                nullable: nullable.contains(&key.as_str()),
            });
        }
        Ok(Rule::Object(ObjectRule {
            type_name,
            properties,
        }))
    }

    /// `#name`, `nsid` or `nsid#name`, as full name and rule.
    fn resolve(&self, document: &Document, reference: &str) -> Fallible<(String, RuleId)> {
        let name = match reference.split_once('#') {
            Some(("", definition)) => document.name_of(definition),
            Some((nsid, "main")) => String::from(nsid),
            _ => String::from(reference),
        };
        match self.named.get(&name) {
            Some(id) => Ok((name, *id)),
            None => Err(format!("nothing is named {reference:?}")),
        }
    }

    /// Only an object can carry the `$type` by which a union tells its variants apart.
    fn check_unions(&self) -> Result<(), LexiconError> {
        for rule in &self.rules {
            let Rule::Union { variants, .. } = rule else {
                continue;
            };
            for (name, id) in variants {
                if !matches!(self.rules.get(id.0), Some(Rule::Object(_))) {
                    return Err(LexiconError {
                        document: name.clone(),
                        reason: String::from("a variant of a union must be an object"),
                    });
                }
            }
        }
        Ok(())
    }

    /// A rule that no value satisfies, until `set`.
    fn reserve(&mut self) -> RuleId {
        self.rules.push(Rule::OneOf(Vec::new()));
        RuleId(self.rules.len() - 1)
    }

    fn set(&mut self, id: RuleId, rule: Rule) {
        if let Some(place) = self.rules.get_mut(id.0) {
            *place = rule;
        }
    }
}

//! The document as `declare.py` encodes it, and its parts compiled.

use serde::Deserialize;

use super::{Belongs, Column, Notice, Notices, Path, PlanError, Role, Skip, Source, Table, Type};
use crate::post::EmbedKind;
use crate::reason::Reason;

impl Belongs {
    pub(super) fn compile(document: BelongsDocument) -> Result<Self, PlanError> {
        Ok(Self {
            path: Path::new(&document.path),
            reason: Reason::from_word(&document.reason)
                .ok_or(PlanError::Reason(document.reason))?,
            same_rkey: document.same_rkey,
        })
    }
}

#[derive(Deserialize)]
pub(super) struct PlanDocument {
    pub record: TableDocument,
    pub collections: Vec<CollectionDocument>,
    #[serde(default)]
    pub derived: Vec<TableDocument>,
}

#[derive(Deserialize)]
pub(super) struct CollectionDocument {
    pub nsid: String,
    pub table: Option<TableDocument>,
    pub unique: Vec<String>,
    pub self_only: bool,
    pub validated: bool,
    pub belongs: Option<BelongsDocument>,
    pub uris: Vec<String>,
    pub insert_uris: Vec<String>,
    pub embeds: Vec<EmbedDocument>,
    #[serde(default)]
    pub counts: Vec<CountDocument>,
    #[serde(default)]
    pub notices: Option<NoticesDocument>,
    #[serde(default)]
    pub role: Role,
}

#[derive(Deserialize)]
pub(super) struct CountDocument {
    pub table: String,
    pub column: String,
    pub key: String,
}

#[derive(Deserialize)]
pub(super) struct NoticesDocument {
    pub made: Vec<NoticeDocument>,
    pub stay: bool,
    pub undone: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct NoticeDocument {
    pub reason: String,
    pub path: String,
    pub about: bool,
    pub own: Skip,
    pub at_event: bool,
}

impl NoticesDocument {
    pub fn compile(self) -> Notices {
        let made = self.made.into_iter().map(|notice| Notice {
            reason: notice.reason,
            path: Path::new(&notice.path),
            about: notice.about,
            own: notice.own,
            at_event: notice.at_event,
        });
        Notices {
            made: made.collect(),
            stay: self.stay,
            undone: self.undone,
        }
    }
}

#[derive(Deserialize)]
pub(super) struct BelongsDocument {
    pub path: String,
    pub reason: String,
    pub same_rkey: bool,
}

#[derive(Deserialize)]
pub(super) struct EmbedDocument {
    pub kind: EmbedKind,
    pub table: TableDocument,
}

#[derive(Deserialize)]
pub(super) struct TableDocument {
    pub name: String,
    pub columns: Vec<ColumnDocument>,
}

#[derive(Deserialize)]
pub(super) struct ColumnDocument {
    pub name: String,
    pub source: String,
    pub path: String,
    #[serde(rename = "type")]
    pub kind: Type,
}

impl TableDocument {
    pub fn compile(self) -> Result<Table, PlanError> {
        let name = self.name;
        let columns = self
            .columns
            .into_iter()
            .map(|column| {
                column
                    .compile()
                    .map_err(|(column, problem)| PlanError::Column {
                        table: name.clone(),
                        column,
                        problem,
                    })
            })
            .collect::<Result<_, _>>()?;
        Ok(Table { name, columns })
    }
}

impl ColumnDocument {
    pub fn compile(self) -> Result<Column, (String, &'static str)> {
        let path = || Path::new(&self.path);
        let source = match self.source.as_str() {
            "uri" => Source::Uri,
            "cid" => Source::Cid,
            "did" => Source::Did,
            "rkey" => Source::Rkey,
            "time" => Source::Time,
            "rev" => Source::Rev,
            "json" => Source::Json,
            "text" => Source::Text(path()),
            "datetime" => Source::Datetime(path()),
            "text_or_now" => Source::TextOrNow(path()),
            "blob" => Source::Blob(path()),
            "plain_json" => Source::PlainJson(path()),
            "texts" => Source::Texts(path()),
            "embed" => Source::Embed,
            "fold" => Source::Fold,
            "flag" => Source::Flag,
            _ => return Err((self.name, "unknown source")),
        };
        let list = matches!(self.kind, Type::Jsonb | Type::Varchars | Type::Texts);
        let flag = self.kind == Type::Boolean;
        if list != matches!(source, Source::Texts(_)) || flag != (source == Source::Flag) {
            return Err((self.name, "type and source do not fit"));
        }
        Ok(Column {
            name: self.name,
            source,
            kind: self.kind,
        })
    }
}

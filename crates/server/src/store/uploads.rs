//! Rows of uploads that have not ended.
use jiff::Timestamp;
use rusqlite::{Row, params};
use vessl_core::ids::{OrganizationName, UserName};

use super::objects::Made;
use super::runs::{moment, nanos};
use super::{Result, Store};

/// An upload that has not ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upload {
    /// Its name.
    pub id: String,
    /// Whose it is.
    pub organization: OrganizationName,
    /// Who began it, where that is known.
    pub by: Option<String>,
    /// What it is for, as its client says.
    pub object: Option<String>,
    /// Bytes of the blobs that came for it as a whole.
    pub bytes: u64,
    /// When it began.
    pub created_at: Timestamp,
    /// When anything came last, as far as was noted.
    pub touched_at: Timestamp,
}

const SELECT: &str =
    "SELECT id, organization, created_at, touched_at, created_by, object, bytes FROM uploads";

impl Store {
    /// Begins an upload.
    pub async fn add_upload(
        &self,
        id: String,
        (organization, object): (OrganizationName, Option<String>),
        made: Made,
    ) -> Result<()> {
        self.write(move |db| {
            let sql = "INSERT INTO uploads (id, organization, created_by, created_at, touched_at, object)
                       VALUES (?1, ?2, ?3, ?4, ?4, ?5)";
            let by = made.by.as_ref().map(UserName::as_str);
            let organization = organization.as_str();
            db.prepare_cached(sql)?.execute(params![id, organization, by, nanos(made.at), object])?;
            Ok(())
        })
        .await
    }

    /// All uploads, oldest first.
    pub async fn uploads(&self) -> Result<Vec<Upload>> {
        self.read(|db| {
            let mut rows = db.prepare_cached(&format!("{SELECT} ORDER BY created_at"))?;
            Ok(rows.query_map([], of_row)?.collect::<rusqlite::Result<_>>()?)
        })
        .await
    }

    /// One upload.
    pub async fn upload(&self, id: String) -> Result<Option<Upload>> {
        self.read(move |db| {
            let mut rows = db.prepare_cached(&format!("{SELECT} WHERE id = ?1"))?;
            Ok(rows.query_map([id], of_row)?.next().transpose()?)
        })
        .await
    }

    /// Notes that something came.
    pub async fn touch_upload(&self, id: String, at: Timestamp) -> Result<()> {
        self.write(move |db| {
            let sql = "UPDATE uploads SET touched_at = ?2 WHERE id = ?1";
            db.prepare_cached(sql)?.execute(params![id, nanos(at)])?;
            Ok(())
        })
        .await
    }

    /// Notes that so many bytes came.
    pub async fn add_upload_bytes(&self, id: String, bytes: u64) -> Result<()> {
        self.write(move |db| {
            let sql = "UPDATE uploads SET bytes = bytes + ?2 WHERE id = ?1";
            db.prepare_cached(sql)?.execute(params![id, bytes])?;
            Ok(())
        })
        .await
    }

    /// Ends an upload; answers false if it had ended.
    pub async fn end_upload(&self, id: String) -> Result<bool> {
        self.write(move |db| Ok(db.prepare_cached("DELETE FROM uploads WHERE id = ?1")?.execute([id])? > 0))
            .await
    }
}

fn of_row(row: &Row<'_>) -> rusqlite::Result<Upload> {
    let organization: String = row.get(1)?;
    Ok(Upload {
        id: row.get(0)?,
        organization: organization.into(),
        by: row.get(4)?,
        object: row.get(5)?,
        bytes: row.get(6)?,
        created_at: moment(row.get(2)?),
        touched_at: moment(row.get(3)?),
    })
}

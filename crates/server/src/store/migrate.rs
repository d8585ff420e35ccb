//! Brings the schema up to date: numbered SQL files, applied in order, never edited afterwards.
use std::path::Path;

use rusqlite::{Connection, TransactionBehavior};

use super::{Result, StoreError};

/// Migration `n` (from 1) is entry `n - 1`.
const MIGRATIONS: &[&str] = &[include_str!("migrations/001_init.sql")];

/// Applies what is missing, each migration in its own transaction; refuses a database of a newer program.
pub(super) fn bring_up_to_date(conn: &mut Connection, path: &Path) -> Result<()> {
    let known = u32::try_from(MIGRATIONS.len()).unwrap_or(u32::MAX);
    let found = version(conn)?;
    if found > known {
        return Err(StoreError::Newer { path: path.to_owned(), found, known });
    }
    for n in found..known {
        let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
        tx.execute_batch(MIGRATIONS[n as usize])?;
        tx.pragma_update(None, "user_version", n + 1)?;
        tx.commit()?;
    }
    Ok(())
}

fn version(conn: &Connection) -> Result<u32> {
    Ok(conn.query_row("PRAGMA user_version", [], |row| row.get(0))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(dir: &tempfile::TempDir) -> Connection {
        Connection::open(dir.path().join("x.db")).unwrap()
    }

    #[test]
    fn a_second_start_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        bring_up_to_date(&mut opened(&dir), dir.path()).unwrap();
        let schema = |conn: &Connection| -> Vec<String> {
            let mut all = conn.prepare("SELECT coalesce(sql, name) FROM sqlite_schema ORDER BY 1").unwrap();
            all.query_map([], |row| row.get(0)).unwrap().map(std::result::Result::unwrap).collect()
        };
        let before = schema(&opened(&dir));
        bring_up_to_date(&mut opened(&dir), dir.path()).unwrap();
        assert_eq!(before, schema(&opened(&dir)));
    }

    #[test]
    fn a_newer_database_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let mut conn = opened(&dir);
        bring_up_to_date(&mut conn, dir.path()).unwrap();
        conn.pragma_update(None, "user_version", 99).unwrap();
        let said = bring_up_to_date(&mut conn, Path::new("x.db")).unwrap_err().to_string();
        assert!(said.starts_with("the database `x.db` has schema version 99, this program knows "), "{said}");
    }
}

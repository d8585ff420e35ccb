//! Brings the schema up to date: numbered SQL files, applied in order, never edited afterwards.
use std::path::Path;

use rusqlite::{Connection, TransactionBehavior};

use super::{Result, StoreError};

/// Migration `n` (from 1) is entry `n - 1`.
const MIGRATIONS: &[&str] = &[
    include_str!("migrations/001_init.sql"),
    include_str!("migrations/002_find.sql"),
    include_str!("migrations/003_artifact_numbers.sql"),
    include_str!("migrations/004_objects.sql"),
    include_str!("migrations/005_volume_changes.sql"),
    include_str!("migrations/006_changes_and_uploads.sql"),
    include_str!("migrations/007_ssh_keys.sql"),
];

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
    fn runs_from_before_they_could_be_found_can_be_found() {
        let dir = tempfile::tempdir().unwrap();
        let mut conn = opened(&dir);
        conn.execute_batch(MIGRATIONS[0]).unwrap();
        conn.pragma_update(None, "user_version", 1).unwrap();
        let ended = r#"{"tags":["a","b","a"],"created_at":"2024-05-01T12:00:00.25Z","run":{"state":
            {"status":"ended","started_at":"2024-05-01T12:00:01Z","ended_at":"2024-05-01T12:00:03.123456789Z"}}}"#;
        let queued = r#"{"tags":[],"created_at":"2024-05-01T12:00:00Z","run":{"state":{"status":"queued"}}}"#;
        conn.execute_batch(
            "INSERT INTO organizations VALUES ('o', 0); INSERT INTO projects VALUES ('o', 'p', 0);",
        )
        .unwrap();
        for doc in [ended, queued] {
            conn.execute(
                "INSERT INTO runs (organization, project, revision, status, unfinished, name, doc)
                 VALUES ('o', 'p', 1, 's', 0, 'n', ?1)",
                [doc],
            )
            .unwrap();
        }
        bring_up_to_date(&mut conn, dir.path()).unwrap();
        let mut rows = conn.prepare("SELECT created_at, started_at, ended_at FROM runs ORDER BY id").unwrap();
        let times = rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap();
        let times: Vec<(i64, Option<i64>, Option<i64>)> = times.map(std::result::Result::unwrap).collect();
        let noon = 1_714_564_800_000_000_000;
        let (started, ended) = (noon + 1_000_000_000, noon + 3_123_000_000);
        assert_eq!(times, [(noon + 250_000_000, Some(started), Some(ended)), (noon, None, None)]);
        let tags: i64 = conn.query_row("SELECT count(*) FROM run_tags", [], |row| row.get(0)).unwrap();
        assert_eq!(tags, 2);
    }

    #[test]
    fn artifacts_become_objects_with_their_numbers() {
        let dir = tempfile::tempdir().unwrap();
        let mut conn = opened(&dir);
        MIGRATIONS[..3].iter().for_each(|sql| conn.execute_batch(sql).unwrap());
        conn.pragma_update(None, "user_version", 3).unwrap();
        conn.execute_batch(
            "INSERT INTO artifacts VALUES
                ('o', 'p', 'model', 1, 'm1', 10, 1, 7, 1000), ('o', 'p', 'model', 3, 'm3', 30, 3, NULL, 3000),
                ('o', 'q', 'model', 1, 'x1', 1, 1, 8, 2000);
             INSERT INTO artifact_numbers VALUES ('o', 'p', 'model', 5), ('o', 'p', 'gone', 4);
             INSERT INTO organizations VALUES ('o', 0); INSERT INTO projects VALUES ('o', 'p', 0);
             INSERT INTO runs (id, organization, project, revision, status, unfinished, name, doc)
                VALUES (7, 'o', 'p', 1, 's', 0, 'n', '{}');
             INSERT INTO outputs VALUES (7, '/out', 'm1', 10, 1);",
        )
        .unwrap();
        bring_up_to_date(&mut conn, dir.path()).unwrap();
        let rows = |sql: &str| -> Vec<String> {
            let mut rows = conn.prepare(sql).unwrap();
            rows.query_map([], |row| row.get(0)).unwrap().map(std::result::Result::unwrap).collect()
        };
        assert_eq!(
            rows(
                "SELECT concat_ws(' ', kind, organization, project, name, last, created_at) FROM objects ORDER BY id"
            ),
            ["artifact o p model 5 1000", "artifact o q model 1 2000"]
        );
        assert_eq!(
            rows(
                "SELECT concat_ws(' ', project, number, manifest, bytes, files, run, versions.created_at)
                 FROM versions JOIN objects ON object = id ORDER BY object, number"
            ),
            ["p 1 m1 10 1 7 1000", "p 3 m3 30 3 3000", "q 1 x1 1 1 8 2000"]
        );
        assert_eq!(rows("SELECT name || last FROM past_numbers"), ["gone4"]);
        assert_eq!(rows("SELECT concat_ws(' ', run, path, manifest, attempt) FROM outputs"), ["7 /out m1"]);
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

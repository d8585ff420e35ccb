//! Which runs a list shows and in which order: the query of the API as SQL. It holds no rule about runs.
use std::fmt::Write as _;

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, params_from_iter};
use vessl_core::ids::{ProjectRef, RunId};
use vessl_core::plan::EnvPlan;
use vessl_core::wire::{RunQuery, RunSort};

use super::runs::{StoredRun, from_json, load, nanos};
use super::unfinished::UnreadableRun;
use super::{Result, Store, StoreError};

/// One run of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The run.
    pub stored: StoredRun,
    /// The variables of its plan, if they were asked for.
    pub env: Option<Vec<EnvPlan>>,
}

/// One page.
#[derive(Debug, Default)]
pub struct Page {
    /// Its runs, in order.
    pub listed: Vec<Listed>,
    /// Runs that belong there too, but cannot be read.
    pub unreadable: Vec<UnreadableRun>,
}

impl Store {
    /// One page of the runs of a project.
    pub async fn page(&self, project: ProjectRef, query: RunQuery) -> Result<Page> {
        self.read(move |db| page(db, &project, &query)).await
    }
}

fn page(db: &Connection, project: &ProjectRef, query: &RunQuery) -> Result<Page> {
    // Of one moment: a run that is deleted meanwhile is still here.
    let db = db.unchecked_transaction()?;
    let Statement { sql, values } = Statement::of(project, query);
    let ids: Vec<u64> = db
        .prepare_cached(&sql)?
        .query_map(params_from_iter(values), |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    let mut page = Page::default();
    for id in ids {
        match load(&db, RunId(id)) {
            Ok(None) => {}
            Ok(Some(stored)) => {
                let env = if query.env { Some(env(&db, id)?) } else { None };
                page.listed.push(Listed { stored, env });
            }
            Err(StoreError::UnreadableRun(run)) => page.unreadable.push(*run),
            Err(error) => return Err(error),
        }
    }
    Ok(page)
}

fn env(db: &Connection, id: u64) -> Result<Vec<EnvPlan>> {
    let mut row = db.prepare_cached("SELECT plan ->> '$.env' FROM run_texts WHERE run = ?1")?;
    let text: Option<String> = row.query_row([id], |row| row.get(0)).optional()?;
    text.map_or_else(|| Ok(Vec::new()), |text| from_json("plan", &text))
}

/// What finds the ids of a page, in order.
struct Statement {
    sql: String,
    values: Vec<Value>,
}

impl Statement {
    fn of(project: &ProjectRef, query: &RunQuery) -> Self {
        let mut statement = Self { sql: "SELECT id FROM runs WHERE TRUE".to_owned(), values: Vec::new() };
        statement.and("organization = ?", project.organization.as_str().to_owned());
        statement.and("project = ?", project.project.as_str().to_owned());
        match query.status.as_slice() {
            [] => {}
            [one] => statement.and("status = ?", one.word().to_owned()),
            several => {
                let words: Vec<&str> = several.iter().map(|status| status.word()).collect();
                statement
                    .and("status IN (SELECT value FROM json_each(?))", serde_json::json!(words).to_string());
            }
        }
        for tag in &query.tag {
            statement.and("id IN (SELECT run FROM run_tags WHERE tag = ?)", tag.clone());
        }
        match query.name.as_deref().map(|name| (name, name.split_once('*'))) {
            None => {}
            Some((name, None)) => statement.and("name = ?", name.to_owned()),
            Some((name, Some((begin, _)))) => {
                statement.and("name GLOB ?", name.replace('[', "[[]").replace('?', "[?]"));
                // What an index can be searched by.
                statement.and("name >= ?", begin.to_owned());
                statement.and("name <= ?", format!("{begin}{}", char::MAX));
            }
        }
        if let Some(since) = query.since {
            statement.and("created_at >= ?", nanos(since));
        }
        if let Some(before) = query.before {
            statement.and("id < ?", i64::try_from(before).unwrap_or(i64::MAX));
        }
        if let Some(reason) = query.reason {
            statement.and("doc ->> '$.run.state.verdict.reason_code' = ?", reason.word().to_owned());
        }
        if let Some(keyword) = &query.keyword {
            statement.and(
                "(instr(lower(name), ?) > 0 OR instr(lower(coalesce(description, '')), ?) > 0
                  OR EXISTS (SELECT 1 FROM run_tags WHERE run = id AND instr(lower(tag), ?) > 0))",
                keyword.to_ascii_lowercase(),
            );
        }
        statement.ordered(query)
    }

    /// Adds a condition in which `?` is this value.
    fn and(&mut self, condition: &str, value: impl Into<Value>) {
        self.values.push(value.into());
        let at = format!("?{}", self.values.len());
        let _ = write!(self.sql, " AND {}", condition.replace('?', &at));
    }

    fn ordered(mut self, query: &RunQuery) -> Self {
        let (by, is_descending) = match query.sort {
            RunSort::Created => ("id", true),
            RunSort::Name => ("name", false),
            RunSort::Status => ("status", false),
            RunSort::Started => ("started_at", true),
            RunSort::Ended => ("ended_at", true),
            RunSort::Time => ("ended_at - started_at", true),
        };
        let way = |is_descending: bool| if is_descending == query.reverse { "ASC" } else { "DESC" };
        let (first, then) = (way(is_descending), way(true));
        let _ = match query.sort {
            RunSort::Created => write!(self.sql, " ORDER BY id {first}"),
            _ => write!(self.sql, " ORDER BY {by} {first} NULLS LAST, id {then}"),
        };
        let _ = write!(
            self.sql,
            " LIMIT {} OFFSET {}",
            query.limit.unwrap_or_default(),
            query.offset.unwrap_or(0)
        );
        self
    }
}

#[cfg(test)]
mod tests {
    use vessl_core::run::Status;

    use super::super::runs::SELECT;
    use super::*;

    /// How the database goes about a statement.
    fn plan_of(statement: Statement) -> String {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.db");
        drop(Store::open(&path).unwrap());
        let db = Connection::open(&path).unwrap();
        let Statement { sql, values } = statement;
        let mut rows = db.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let lines = rows.query_map(params_from_iter(values), |row| row.get::<_, String>(3)).unwrap();
        lines.collect::<rusqlite::Result<Vec<_>>>().unwrap().join("; ")
    }

    #[test]
    fn unfinished_runs_are_found_in_an_index() {
        let sql = format!("{SELECT} WHERE unfinished = 1 ORDER BY id");
        let said = plan_of(Statement { sql, values: Vec::new() });
        assert!(said.contains("USING INDEX runs_unfinished") && !said.contains("TEMP B-TREE"), "{said}");
    }

    #[test]
    fn a_first_page_is_found_in_an_index_alone() {
        let any = RunQuery { limit: Some(100), ..RunQuery::default() };
        let check = |query: RunQuery, index: &str, is_sorted: bool| {
            let said = plan_of(Statement::of(&ProjectRef::new("o", "p"), &query));
            assert!(said.contains(index), "{query:?}: {said}");
            assert_eq!(said.contains("TEMP B-TREE"), is_sorted, "{query:?}: {said}");
        };
        let sorted = |sort| RunQuery { sort, ..any.clone() };
        let with = |status: &[Status]| RunQuery { status: status.to_vec(), ..any.clone() };
        let by_project = "COVERING INDEX runs_by_project";
        check(any.clone(), by_project, false);
        check(RunQuery { reverse: true, ..any.clone() }, by_project, false);
        check(RunQuery { before: Some(9), ..any.clone() }, by_project, false);
        check(RunQuery { since: Some(jiff::Timestamp::UNIX_EPOCH), ..any.clone() }, by_project, false);
        check(with(&[Status::Failed]), "COVERING INDEX runs_by_status", false);
        check(with(&[Status::Failed, Status::Running]), by_project, false);
        check(RunQuery { name: Some("x".to_owned()), ..any.clone() }, "COVERING INDEX runs_by_name", false);
        check(RunQuery { name: Some("x*".to_owned()), ..any.clone() }, "COVERING INDEX runs_by_name", true);
        check(RunQuery { tag: vec!["x".to_owned()], ..any.clone() }, by_project, false);
        check(sorted(RunSort::Name), "COVERING INDEX runs_by_name", true);
        check(sorted(RunSort::Status), "COVERING INDEX runs_by_status", true);
        for sort in [RunSort::Started, RunSort::Ended, RunSort::Time] {
            check(sorted(sort), by_project, true);
        }
    }
}

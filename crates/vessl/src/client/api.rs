//! What can be asked of a server, one function each.
use http_body_util::BodyExt;
use vessl_core::ids::RunId;
use vessl_core::logwire;
use vessl_core::logwire::Stream;
use vessl_core::wire::{
    ArtifactView, CacheEntry, CachePrune, CachePruned, ClusterView, CredentialCreate, Explain, FileView,
    ImagePull, ImageView, NodeView, PresetView, Progress, Pruned, PullLine, RunCreate, RunExtend, RunQuery,
    RunSort, RunTerminate, RunUpdate, RunView, SecretCreate, SecretView, ServerView, UNREADABLE, WhoAmI,
    tags_as_text,
};

use super::http::ApiRequest;
use super::path::Path;
use super::{Client, Events, Logs, Method, Scope, encoded};
use crate::error::{Error, Result};

/// Which part of a log, and whether to stay for what comes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LogQuery {
    /// Position to begin at.
    pub(crate) from: Option<u64>,
    /// Only the last lines.
    pub(crate) tail: Option<u64>,
    /// Only one stream; `tail` counts its lines.
    pub(crate) only: Option<Stream>,
    /// Stay until the log is finished.
    pub(crate) follow: bool,
    /// Only that of this attempt; the current one without.
    pub(crate) attempt: Option<u32>,
}

/// A part of the runs of a project.
#[derive(Debug, Default)]
pub(crate) struct Page {
    /// Its runs.
    pub(crate) runs: Vec<RunView>,
    /// Runs that belong there too, but that the server cannot read.
    pub(crate) unreadable: Vec<RunId>,
}

impl Client {
    /// Who the token belongs to and what the server is.
    pub(crate) async fn about_server(&mut self) -> Result<ServerView> {
        self.get(Path::of(&["server"]).into()).await
    }

    pub(crate) async fn whoami(&mut self) -> Result<WhoAmI> {
        self.get(Path::of(&["whoami"]).into()).await
    }

    /// The organization and the project that are used instead of the server's defaults, if any are settled.
    pub(crate) fn settled(&self, who: &WhoAmI) -> Option<(String, String)> {
        let Scope { organization, project } = &self.scope;
        if organization.is_none() && project.is_none() {
            return None;
        }
        let or = |settled: &Option<String>, default: &str| settled.clone().unwrap_or(default.to_owned());
        Some((or(organization, &who.organization), or(project, &who.project)))
    }

    /// Submits a run.
    pub(crate) async fn create(&mut self, request: &RunCreate) -> Result<RunView> {
        let path = self.project(&["runs"]).await?;
        self.post(path.into(), request).await
    }

    /// One page of runs.
    pub(crate) async fn page(&mut self, query: &RunQuery) -> Result<Page> {
        let path = self.project(&["runs"]).await?;
        let statuses: Vec<&str> = query.status.iter().map(|status| status.word()).collect();
        let path = path
            .with("status", (!statuses.is_empty()).then(|| statuses.join(",")))
            .with("reason", query.reason.map(vessl_core::run::EndReason::word))
            .with("keyword", query.keyword.as_deref())
            .with("tag", tags_as_text(&query.tag))
            .with("name", query.name.as_deref())
            .with("since", query.since)
            .with("sort", (query.sort != RunSort::Created).then(|| query.sort.word()))
            .with("reverse", query.reverse.then_some(true))
            .with("env", query.env.then_some(true))
            .with("before", query.before)
            .with("offset", query.offset)
            .with("limit", query.limit);
        let request = ApiRequest { method: Method::GET, path: path.into(), body: None, headers: Vec::new() };
        let answer = self.answer(&request).await.1?;
        let ids = answer.headers().get(UNREADABLE).and_then(|ids| ids.to_str().ok()).unwrap_or_default();
        let unreadable = ids.split(',').filter_map(|id| id.parse().ok().map(RunId)).collect();
        Ok(Page { runs: self.read(answer.body())?, unreadable })
    }

    /// The runs of a page that can be read.
    pub(crate) async fn runs(&mut self, query: &RunQuery) -> Result<Vec<RunView>> {
        Ok(self.page(query).await?.runs)
    }

    /// One run.
    pub(crate) async fn run(&mut self, id: RunId) -> Result<RunView> {
        let path = self.of_run(id, &[]).await?;
        self.get(path.into()).await
    }

    /// One run, with what its attempts really used.
    pub(crate) async fn run_with_provenance(&mut self, id: RunId) -> Result<RunView> {
        let path = self.of_run(id, &[]).await?.with("provenance", Some(true));
        self.get(path.into()).await
    }

    /// Changes name, description or tags.
    pub(crate) async fn update(&mut self, id: RunId, request: &RunUpdate) -> Result<RunView> {
        let path = self.of_run(id, &[]).await?.into();
        self.json(ApiRequest {
            method: Method::PATCH,
            path,
            body: Some(encoded(request)?),
            headers: Vec::new(),
        })
        .await
    }

    /// Asks for the end of a run.
    pub(crate) async fn terminate(&mut self, id: RunId, request: &RunTerminate) -> Result<RunView> {
        let path = self.of_run(id, &["terminate"]).await?;
        self.post(path.into(), request).await
    }

    /// Gives a run more time.
    pub(crate) async fn extend(&mut self, id: RunId, request: &RunExtend) -> Result<RunView> {
        let path = self.of_run(id, &["extend"]).await?;
        self.post(path.into(), request).await
    }

    /// Begins a new attempt of a run that has ended.
    pub(crate) async fn restart(&mut self, id: RunId) -> Result<RunView> {
        let path = self.of_run(id, &["restart"]).await?;
        self.post(path.into(), &serde_json::Map::new()).await
    }

    /// Writes the exports of a run again that failed.
    pub(crate) async fn export(&mut self, id: RunId) -> Result<RunView> {
        let path = self.of_run(id, &["export"]).await?;
        self.post(path.into(), &serde_json::Map::new()).await
    }

    /// Removes a finished run.
    pub(crate) async fn delete_run(&mut self, id: RunId) -> Result<()> {
        let path = self.of_run(id, &[]).await?;
        self.delete(path.into()).await
    }

    /// Why a run is where it is.
    pub(crate) async fn explain(&mut self, id: RunId) -> Result<Explain> {
        let path = self.of_run(id, &["explain"]).await?;
        self.get(path.into()).await
    }

    /// Events after number `after`, until the run has ended.
    pub(crate) async fn events(&mut self, id: RunId, after: u64) -> Result<Events> {
        let path = self.of_run(id, &["events"]).await?.with("after", Some(after));
        Ok(Events::new(self.stream(path.into(), "text/event-stream").await?))
    }

    /// The log.
    pub(crate) async fn logs(&mut self, id: RunId, query: LogQuery) -> Result<Logs> {
        let path = self.of_run(id, &["logs"]).await?;
        let path = path
            .with("from", query.from)
            .with("tail", query.tail)
            .with("stream", query.only.map(Stream::word))
            .with("follow", query.follow.then_some(true))
            .with("attempt", query.attempt);
        Ok(Logs::new(self.stream(path.into(), logwire::MEDIA_TYPE).await?))
    }

    /// Files that a run exported.
    pub(crate) async fn files(&mut self, id: RunId) -> Result<Vec<FileView>> {
        let path = self.of_run(id, &["files"]).await?;
        self.get(path.into()).await
    }

    /// The same with every directory.
    pub(crate) async fn files_and_directories(&mut self, id: RunId) -> Result<Vec<FileView>> {
        let path = self.of_run(id, &["files"]).await?.with("all_directories", Some(true));
        self.get(path.into()).await
    }

    /// Artifacts of the project, each with its newest version.
    pub(crate) async fn artifacts(&mut self) -> Result<Vec<ArtifactView>> {
        let path = self.project(&["artifacts"]).await?;
        self.get(path.into()).await
    }

    /// One artifact with all its versions; its name alone is one of the project, `organization/project/name` is whole.
    pub(crate) async fn artifact(&mut self, name: &str) -> Result<ArtifactView> {
        let path = self.of_artifact(name).await?;
        self.get(path.into()).await
    }

    /// Removes one version of an artifact, or all of it; named as in [`Client::artifact`].
    pub(crate) async fn delete_artifact(&mut self, name: &str, version: Option<u64>) -> Result<()> {
        let path = self.of_artifact(name).await?.with("version", version);
        self.delete(path.into()).await
    }

    async fn of_artifact(&mut self, name: &str) -> Result<Path> {
        let name = name.strip_prefix("vessl-artifact://").unwrap_or(name);
        match name.split('/').collect::<Vec<_>>()[..] {
            [organization, project, name] => {
                let segments = ["organizations", organization, "projects", project, "artifacts", name];
                Ok(Path::of(&segments))
            }
            _ => self.project(&["artifacts", name]).await,
        }
    }

    /// All clusters.
    pub(crate) async fn clusters(&mut self) -> Result<Vec<ClusterView>> {
        self.get(Path::of(&["clusters"]).into()).await
    }

    /// One cluster.
    pub(crate) async fn cluster(&mut self, name: &str) -> Result<ClusterView> {
        self.get(Path::of(&["clusters", name]).into()).await
    }

    /// The cluster that is named, or the name of the default one.
    pub(crate) async fn cluster_or_default(&mut self, named: Option<String>) -> Result<String> {
        if let Some(name) = named {
            return Ok(name);
        }
        let default = self.clusters().await?.into_iter().find(|cluster| cluster.default);
        let missing = || {
            Error::not_found("there is no default cluster".to_owned(), "name one, see `vessl cluster list`")
        };
        default.map(|cluster| cluster.name).ok_or_else(missing)
    }

    /// Nodes of a cluster.
    pub(crate) async fn nodes(&mut self, cluster: &str) -> Result<Vec<NodeView>> {
        self.get(Path::of(&["clusters", cluster, "nodes"]).into()).await
    }

    /// Presets of a cluster.
    pub(crate) async fn presets(&mut self, cluster: &str) -> Result<Vec<PresetView>> {
        self.get(Path::of(&["clusters", cluster, "presets"]).into()).await
    }

    /// One preset.
    pub(crate) async fn preset(&mut self, cluster: &str, name: &str) -> Result<PresetView> {
        self.get(Path::of(&["clusters", cluster, "presets", name]).into()).await
    }

    /// Images of a cluster.
    pub(crate) async fn images(&mut self, cluster: &str) -> Result<Vec<ImageView>> {
        self.get(Path::of(&["clusters", cluster, "images"]).into()).await
    }

    /// What imports brought to the machine of a cluster.
    pub(crate) async fn cache(&mut self, cluster: &str) -> Result<Vec<CacheEntry>> {
        self.get(Path::of(&["clusters", cluster, "cache"]).into()).await
    }

    /// Removes what no run uses of it.
    pub(crate) async fn prune_cache(&mut self, cluster: &str, ask: &CachePrune) -> Result<CachePruned> {
        self.post(Path::of(&["clusters", cluster, "cache", "prune"]).into(), ask).await
    }

    /// One image.
    pub(crate) async fn image(&mut self, cluster: &str, id: &str) -> Result<ImageView> {
        self.get(Path::of(&["clusters", cluster, "images", id]).into()).await
    }

    /// Fetches an image and tells every step.
    pub(crate) async fn pull_image(
        &mut self,
        cluster: &str,
        request: &ImagePull,
        mut step: impl FnMut(&Progress),
    ) -> Result<ImageView> {
        let path = Path::of(&["clusters", cluster, "images", "pull"]).into();
        let request =
            ApiRequest { method: Method::POST, path, body: Some(encoded(request)?), headers: Vec::new() };
        let mut body = self.connection.send(&request).await?.into_body();
        let mut text = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|e| self.connection.unreachable(&super::http::words(&e)))?;
            text.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
            while let Some(end) = text.iter().position(|&b| b == b'\n') {
                let line = serde_json::from_slice(&text[..end]).map_err(|e| self.connection.protocol(e))?;
                text.drain(..=end);
                match line {
                    PullLine::Progress(progress) => step(&progress),
                    PullLine::Image(image) => return Ok(image),
                    PullLine::Error(body) => {
                        return Err(Error::Refused { status: 422, body: Box::new(body) });
                    }
                }
            }
        }
        Err(self.connection.protocol("a pull ended without a result"))
    }

    /// Removes images that no run uses.
    pub(crate) async fn prune_images(&mut self, cluster: &str) -> Result<Pruned> {
        self.post(Path::of(&["clusters", cluster, "images", "prune"]).into(), &serde_json::json!({})).await
    }

    /// Stored secrets.
    pub(crate) async fn secrets(&mut self) -> Result<Vec<SecretView>> {
        self.get(self.owned(&["secrets"]).into()).await
    }

    /// Stores a secret.
    pub(crate) async fn create_secret(&mut self, request: &SecretCreate) -> Result<SecretView> {
        self.post(self.owned(&["secrets"]).into(), request).await
    }

    /// Removes a secret.
    pub(crate) async fn delete_secret(&mut self, name: &str) -> Result<()> {
        self.delete(self.owned(&["secrets", name]).into()).await
    }

    /// Stored credentials.
    pub(crate) async fn credentials(&mut self) -> Result<Vec<SecretView>> {
        self.get(self.owned(&["credentials"]).into()).await
    }

    /// Stores a credential.
    pub(crate) async fn create_credential(&mut self, request: &CredentialCreate) -> Result<SecretView> {
        self.post(self.owned(&["credentials"]).into(), request).await
    }

    /// Removes a credential.
    pub(crate) async fn delete_credential(&mut self, name: &str) -> Result<()> {
        self.delete(self.owned(&["credentials", name]).into()).await
    }

    /// A path of something that belongs to the organization; without one it is the server's default.
    fn owned(&self, rest: &[&str]) -> Path {
        Path::of(rest).with("organization", self.scope.organization.as_deref())
    }

    pub(super) async fn of_run(&mut self, id: RunId, rest: &[&str]) -> Result<Path> {
        let id = id.0.to_string();
        let mut segments = vec!["runs", &id];
        segments.extend(rest);
        self.project(&segments).await
    }

    /// A path below the project; what is not settled is the default of the server.
    async fn project(&mut self, rest: &[&str]) -> Result<Path> {
        self.settle().await?;
        let name = |name: &Option<String>| name.clone().unwrap_or_default();
        let (organization, project) = (name(&self.scope.organization), name(&self.scope.project));
        let mut segments = vec!["organizations", &organization, "projects", &project];
        segments.extend(rest);
        Ok(Path::of(&segments))
    }

    /// Asks the server for defaults that are not settled here.
    pub(super) async fn settle(&mut self) -> Result<()> {
        if self.scope.organization.is_none() || self.scope.project.is_none() {
            let who = self.whoami().await?;
            self.scope.organization.get_or_insert(who.organization);
            self.scope.project.get_or_insert(who.project);
        }
        Ok(())
    }
}

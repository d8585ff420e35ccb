//! The HTTP API `/v1`: checks who asks, decodes, calls one function, encodes. No rule lives here and no engine is known.
#![allow(unused_qualifications, reason = "utoipa's macro writes the paths of parameter types")]
mod auth;
mod catalogue;
mod error;
mod events;
mod extract;
mod files;
mod images;
mod logs;
mod names;
mod objects;
mod ports;
mod reach;
mod runs;
mod secrets;
mod server;
mod ssh;
mod storages;
mod uploads;
mod versions;
mod volumes;

use std::sync::Arc;

use axum::Router;
use axum::middleware;
use jiff::Timestamp;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use utoipa::OpenApi;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{Content, Ref, RefOr, Response as OpenApiResponse, ResponseBuilder};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use vessl_core::wire::{LogPiece, RunEvent};

use crate::control::{Control, ControlError};
use crate::registry::Registry;

pub use auth::Auth;

/// Most sessions and connections into runs at the same time.
const WAYS: usize = 1024;

/// What every handler works with.
#[derive(Clone, Debug)]
pub struct Api {
    control: Control,
    registry: Registry,
    auth: Arc<Auth>,
    about: Arc<About>,
    bodies: extract::Bodies,
    /// Room for sessions and connections into runs.
    ways: Arc<Semaphore>,
}

/// What a server says about itself.
#[derive(Debug)]
pub struct About {
    /// Where it listens.
    pub url: String,
    /// Data directory.
    pub data_dir: String,
    /// Since when.
    pub started_at: Timestamp,
    /// Most request bodies on their way.
    pub open_bodies: usize,
    /// Cancelled to stop the server.
    pub stop: CancellationToken,
}

#[derive(OpenApi)]
#[openapi(
    info(title = "vessl", description = "Machine-learning runs described in one YAML file.", version = "1"),
    servers((url = "/v1")),
    security(("token" = [])),
    components(schemas(LogPiece, RunEvent)),
)]
struct Document;

impl Api {
    /// The API over these rooms.
    pub fn new(control: Control, registry: Registry, auth: Auth, about: About) -> Self {
        let bodies = extract::Bodies::new(about.open_bodies);
        Self {
            control,
            registry,
            auth: Arc::new(auth),
            about: Arc::new(about),
            bodies,
            ways: Arc::new(Semaphore::new(WAYS)),
        }
    }

    /// Frees the bytes of what was deleted, after the answer.
    fn collect(&self) {
        let registry = self.registry.clone();
        tokio::spawn(async move {
            if let Err(error) = registry.collect().await {
                tracing::warn!(error = %crate::chain(&error), "bytes of what was deleted stay until the next delete");
            }
        });
    }

    /// All routes.
    pub fn router(self) -> Router {
        let (v1, _) = routes_of_v1().split_for_parts();
        let v1 = v1.method_not_allowed_fallback(server::wrong_method);
        let v1 = v1.layer(middleware::from_fn_with_state(self.clone(), auth::check_token));
        let (open, _) = open_routes().split_for_parts();
        let v1 = v1.merge(open.method_not_allowed_fallback(server::wrong_method));
        Router::new()
            .nest("/v1", v1)
            .route("/healthz", axum::routing::get(server::healthz))
            .method_not_allowed_fallback(server::wrong_method)
            .fallback(server::nowhere)
            .layer(middleware::from_fn_with_state(self.clone(), auth::check_host))
            .with_state(self)
    }
}

/// The `OpenAPI` document of `/v1` as it is committed.
pub fn openapi() -> String {
    let (_, mut document) = routes_of_v1().merge(open_routes()).split_for_parts();
    let bearer = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
    document.components.get_or_insert_default().add_security_scheme("token", bearer);
    for path in document.paths.paths.values_mut() {
        let each = [&mut path.get, &mut path.put, &mut path.post, &mut path.patch, &mut path.delete];
        for operation in each.into_iter().flatten() {
            operation.responses.responses.insert("default".to_owned(), RefOr::T(refusal()));
        }
    }
    let text = document.to_pretty_json().unwrap_or_default();
    format!("{text}\n")
}

/// Every other answer: the status says what kind of refusal it is, the body which one.
fn refusal() -> OpenApiResponse {
    let body = Content::new(Some(Ref::from_schema_name("ErrorBody")));
    let description = "refused or failed: 400 malformed, 401 without a token, 404 not there, 405 not this method, \
                       409 not in this state, 413 too large, 421 another host, 422 a run file with problems or what makes no sense, 500 our fault, \
                       502 the engine, 503 stopping or busy, 507 the disk is full";
    ResponseBuilder::new().description(description).content("application/json", body).build()
}

/// Carries a request out to its end, also when the client hangs up in between: nothing is left half done.
async fn to_the_end<T, E, F>(work: F) -> error::Result<T>
where
    T: Send + 'static,
    E: Into<error::Failure> + Send + 'static,
    F: Future<Output = Result<T, E>> + Send + 'static,
{
    match tokio::spawn(work).await {
        Ok(done) => done.map_err(Into::into),
        Err(_) => Err(ControlError::Stopping.into()),
    }
}

fn routes_of_v1() -> OpenApiRouter<Api> {
    OpenApiRouter::with_openapi(Document::openapi())
        .merge(runs_routes())
        .merge(objects_routes())
        .merge(storages_routes())
        .routes(routes!(names::organizations, names::create_organization))
        .routes(routes!(names::projects, names::create_project))
        .routes(routes!(names::artifacts))
        .routes(routes!(names::artifact, names::delete_artifact))
        .routes(routes!(catalogue::clusters))
        .routes(routes!(catalogue::cluster))
        .routes(routes!(catalogue::nodes))
        .routes(routes!(catalogue::presets))
        .routes(routes!(catalogue::preset))
        .routes(routes!(images::list))
        .routes(routes!(images::read))
        .routes(routes!(images::pull))
        .routes(routes!(images::prune))
        .routes(routes!(images::cache))
        .routes(routes!(images::prune_cache))
        .routes(routes!(secrets::secrets, secrets::create_secret))
        .routes(routes!(secrets::delete_secret))
        .routes(routes!(secrets::credentials, secrets::create_credential))
        .routes(routes!(secrets::delete_credential))
        .routes(routes!(ssh::keys, ssh::add_key))
        .routes(routes!(ssh::delete_key))
        .routes(routes!(server::whoami))
        .routes(routes!(server::read))
        .routes(routes!(server::shutdown))
        .routes(routes!(server::document))
}

/// What needs no token.
fn open_routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(server::challenge))
}

fn runs_routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(runs::list, runs::create))
        .routes(routes!(runs::read, runs::update, runs::delete))
        .routes(routes!(runs::terminate))
        .routes(routes!(runs::extend))
        .routes(routes!(runs::restart))
        .routes(routes!(runs::export))
        .routes(routes!(runs::explain))
        .routes(routes!(reach::exec))
        .routes(routes!(reach::dial))
        .routes(routes!(ssh::connect))
        .routes(routes!(ports::open))
        .routes(routes!(ports::jupyter))
        .routes(routes!(events::stream))
        .routes(routes!(logs::read))
        .routes(routes!(files::list))
        .routes(routes!(files::content))
}

fn objects_routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(objects::list, objects::create))
        .routes(routes!(objects::read, objects::update, objects::delete))
        .routes(routes!(objects::set_alias, objects::delete_alias))
        .routes(routes!(versions::list, versions::create))
        .routes(routes!(versions::read, versions::update, versions::delete))
        .routes(routes!(versions::files))
        .routes(routes!(versions::content))
        .routes(routes!(versions::diff))
        .routes(routes!(uploads::list, uploads::create))
        .routes(routes!(uploads::read, uploads::delete))
        .routes(routes!(uploads::missing))
        .routes(routes!(uploads::blob, uploads::put))
        .routes(routes!(uploads::pack))
}

fn storages_routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(storages::list, storages::create))
        .routes(routes!(storages::delete))
        .routes(routes!(storages::volumes, storages::create_volume))
        .routes(routes!(storages::delete_volume))
        .routes(routes!(volumes::list, volumes::delete))
        .routes(routes!(volumes::content, volumes::put))
        .routes(routes!(volumes::incoming))
        .routes(routes!(volumes::copy))
        .routes(routes!(volumes::changes))
}

//! JupyterLab of interactive runs: how far it is, by what the process that looks after it has told, and the link that opens it.
use vessl_core::access::{Action, Caller};
use vessl_core::ids::RunRef;
use vessl_core::jupyter::{JupyterRecord, JupyterState};
use vessl_core::run::Status;
use vessl_core::spec::JUPYTER_PORT;
use vessl_core::wire::{JupyterOpened, JupyterView, PortOpen};

use super::{Control, ControlError, Inner, Result};
use crate::store::runs::StoredRun;

impl Control {
    /// How far JupyterLab of a run is, with a link once it is ready. The link lets in whoever has it, so it asks for as much as a program in
    /// the run.
    pub async fn jupyter(&self, caller: &Caller, of: &RunRef) -> Result<JupyterOpened> {
        let stored = self.0.stored(caller, Action::Run, of).await?;
        let texts = self.0.parts.store.run_texts(of.id).await?;
        if texts.is_none_or(|texts| texts.plan.interactive.is_none()) {
            return Err(ControlError::Refused {
                message: format!("run {} is not interactive: it has no JupyterLab", of.id.0),
                hint: Some("`interactive: {max_runtime: 8h}` in the run file makes it so".to_owned()),
            });
        }
        if stored.status().is_final() {
            return Err(ControlError::refused(format!("the run has ended ({})", stored.status().word())));
        }
        let JupyterView { state, why } = self.0.jupyter_of(&stored).await;
        let not_yet = |state, why| JupyterOpened { state, why, url: None, expires_at: None };
        if state != JupyterState::Ready {
            return Ok(not_yet(state, why));
        }
        let at = stored.doc.run.attempt_id();
        let Some(token) = self.attempts().jupyter_token(at).await else {
            return Ok(not_yet(JupyterState::Preparing, "the run is ending".to_owned()));
        };
        let opened = self.open_port(caller, (of, JUPYTER_PORT), PortOpen::default()).await?;
        let url = with_token(&opened.url, token.expose());
        Ok(JupyterOpened { state, why, url: Some(url), expires_at: opened.expires_at })
    }
}

impl Inner {
    /// How far JupyterLab of an interactive run is that has not ended.
    pub(super) async fn jupyter_of(&self, stored: &StoredRun) -> JupyterView {
        let status = stored.status();
        if !matches!(status, Status::Running | Status::Idle | Status::Stopping) {
            let why = format!("the run is {}: its container does not run yet", status.word());
            return JupyterView { state: JupyterState::Preparing, why };
        }
        let told = self.parts.attempts.jupyter(stored.doc.run.attempt_id()).await;
        let JupyterRecord { state, why, .. } = told.unwrap_or_default();
        JupyterView { state, why }
    }
}

/// The link to a port as a link to the page of JupyterLab, which takes its token from there.
fn with_token(url: &str, token: &str) -> String {
    match url.split_once("/?") {
        Some((host, code)) => format!("{host}/lab?{code}&token={token}"),
        None => format!("{}/lab?token={token}", url.trim_end_matches('/')),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_has_the_code_and_the_token() {
        let private = with_token("http://8888-7.vessl.localhost:7381/?vessl-code=c0de", "t0ken");
        assert_eq!(private, "http://8888-7.vessl.localhost:7381/lab?vessl-code=c0de&token=t0ken");
        let public = with_token("http://8888-7.vessl.localhost:7381/", "t0ken");
        assert_eq!(public, "http://8888-7.vessl.localhost:7381/lab?token=t0ken");
    }
}

//! TLS for ports of runs, with a certificate and a key in two files of the machine. A certificate that was renewed there is taken without a
//! restart.
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use vessl_data::locked;

/// The files of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CertificateFiles {
    /// The certificate and those between it and its root, as PEM.
    pub(crate) certificate: PathBuf,
    /// Its key, as PEM.
    pub(crate) key: PathBuf,
}

/// What is in the files, as of a time.
#[derive(Debug)]
struct Certificate {
    files: CertificateFiles,
    taken: Mutex<(Option<[SystemTime; 2]>, Arc<CertifiedKey>)>,
}

/// Reads the files, and makes ready to answer with what is in them.
pub(super) fn config(files: CertificateFiles) -> io::Result<Arc<ServerConfig>> {
    let taken = Mutex::new((files.times(), Arc::new(files.read()?)));
    let resolver = Arc::new(Certificate { files, taken });
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?;
    let mut config = config.with_no_client_auth().with_cert_resolver(resolver);
    // What is passed on is HTTP/1.1 all the way: a web socket over HTTP/2 is another protocol.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

impl CertificateFiles {
    fn read(&self) -> io::Result<CertifiedKey> {
        let failed = |path: &Path, why: String| io::Error::other(format!("`{}`: {why}", path.display()));
        let chain = CertificateDer::pem_file_iter(&self.certificate).and_then(Iterator::collect);
        let chain: Vec<_> = chain.map_err(|error| failed(&self.certificate, error.to_string()))?;
        if chain.is_empty() {
            return Err(failed(&self.certificate, "there is no certificate in it".to_owned()));
        }
        let key = PrivateKeyDer::from_pem_file(&self.key);
        let key = key.map_err(|error| failed(&self.key, error.to_string()))?;
        CertifiedKey::from_der(chain, key, &ring::default_provider())
            .map_err(|error| failed(&self.key, format!("it is no key of the certificate: {error}")))
    }

    fn times(&self) -> Option<[SystemTime; 2]> {
        let time = |path: &Path| std::fs::metadata(path).and_then(|about| about.modified()).ok();
        Some([time(&self.certificate)?, time(&self.key)?])
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let mut taken = locked(&self.taken);
        let times = self.files.times();
        if times.is_some() && times != taken.0 {
            match self.files.read() {
                Ok(read) => *taken = (times, Arc::new(read)),
                // Perhaps one of the two files is not there yet.
                Err(error) => {
                    tracing::warn!(
                        "the certificate for ports of runs cannot be renewed, the one of before stays: {error}"
                    );
                    taken.0 = times;
                }
            }
        }
        Some(Arc::clone(&taken.1))
    }
}

//! From a URL to the broker and the result backend behind it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use celeriac_backend::ResultBackend;
use celeriac_broker::Broker;
use celeriac_core::{Error, Result};
use futures_util::future::BoxFuture;

/// What one URL opens: a broker, a result backend, or both.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct System {
    /// The broker, if the system is one.
    pub broker: Option<Arc<dyn Broker>>,
    /// The result backend, if the system is one.
    pub backend: Option<Arc<dyn ResultBackend>>,
}

impl System {
    /// A system that is neither. Set what it is.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the broker.
    #[must_use]
    pub fn broker(mut self, broker: Arc<dyn Broker>) -> Self {
        self.broker = Some(broker);
        self
    }

    /// Sets the result backend.
    #[must_use]
    pub fn backend(mut self, backend: Arc<dyn ResultBackend>) -> Self {
        self.backend = Some(backend);
        self
    }
}

/// Opens the URLs of one scheme.
pub type Opener = Arc<dyn Fn(String) -> BoxFuture<'static, Result<System>> + Send + Sync>;

/// The schemes that are known.
#[derive(Clone)]
pub(crate) struct Systems(BTreeMap<String, Opener>);

impl fmt::Debug for Systems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Default for Systems {
    fn default() -> Self {
        #[allow(unused_mut, reason = "no system may be compiled in")]
        let mut openers: BTreeMap<String, Opener> = BTreeMap::new();
        #[cfg(feature = "memory")]
        openers.insert("memory".to_owned(), Arc::new(|url| Box::pin(memory(url))));
        #[cfg(feature = "sqlite")]
        openers.insert("sqlite".to_owned(), Arc::new(|url| Box::pin(sqlite(url))));
        Self(openers)
    }
}

impl Systems {
    pub(crate) fn insert(&mut self, scheme: String, opener: Opener) {
        self.0.insert(scheme, opener);
    }

    pub(crate) async fn open(&self, url: &str) -> Result<System> {
        let known = || self.0.keys().map(|scheme| format!("`{scheme}`")).collect::<Vec<_>>().join(", ");
        // The URL itself is not shown: it may hold a password.
        let Some((scheme, _)) = url.split_once(':') else {
            return Err(Error::config(
                "open",
                format!("a URL begins with a scheme and a colon; known schemes are {}", known()),
            ));
        };
        let Some(opener) = self.0.get(scheme) else {
            let message = format!("the URL's scheme `{scheme}` is not known; known schemes are {}", known());
            return Err(Error::config("open", message));
        };
        opener(url.to_owned()).await
    }
}

#[cfg(feature = "memory")]
async fn memory(url: String) -> Result<System> {
    let name = url.strip_prefix("memory:").unwrap_or_default().trim_start_matches('/');
    if let Some((_, options)) = name.split_once('?') {
        return Err(Error::config("open", format!("a memory URL has no options, but `{options}` was given")));
    }
    let store =
        if name.is_empty() { celeriac_memory::MemoryStore::new() } else { celeriac_memory::MemoryStore::named(name) };
    Ok(System::new().broker(Arc::new(store.clone())).backend(Arc::new(store)))
}

#[cfg(feature = "sqlite")]
async fn sqlite(url: String) -> Result<System> {
    let config = celeriac_sqlite::SqliteConfig::from_url(&url)?;
    let store = celeriac_sqlite::SqliteStore::open(config).await?;
    Ok(System::new().broker(store.broker()).backend(store.backend()))
}

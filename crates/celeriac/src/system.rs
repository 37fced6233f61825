//! From a URL to the broker, the result backend and the store of schedules behind it.

use std::collections::BTreeMap;
use std::fmt;
#[cfg(feature = "sqlite")]
use std::path::PathBuf;
use std::sync::Arc;

use celeriac_backend::ResultBackend;
use celeriac_broker::Broker;
use celeriac_core::{Error, Result};
use celeriac_schedule::ScheduleStore;
use futures_util::future::BoxFuture;

/// What one URL opens: a broker, a result backend, a store of schedules, or several of them.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct System {
    /// The broker, if the system is one.
    pub broker: Option<Arc<dyn Broker>>,
    /// The result backend, if the system is one.
    pub backend: Option<Arc<dyn ResultBackend>>,
    /// The store of schedules, if the system is one.
    pub schedule: Option<Arc<dyn ScheduleStore>>,
}

impl System {
    /// A system that is none of them. Set what it is.
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

    /// Sets the store of schedules.
    #[must_use]
    pub fn schedule(mut self, schedule: Arc<dyn ScheduleStore>) -> Self {
        self.schedule = Some(schedule);
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
        #[cfg(feature = "amqp")]
        for scheme in celeriac_amqp::AmqpConfig::SCHEMES {
            openers.insert((*scheme).to_owned(), Arc::new(|url| Box::pin(amqp(url))));
        }
        #[cfg(feature = "redis")]
        for scheme in celeriac_redis::RedisConfig::SCHEMES {
            openers.insert((*scheme).to_owned(), Arc::new(|url| Box::pin(redis(url))));
        }
        Self(openers)
    }
}

impl Systems {
    pub(crate) fn insert(&mut self, scheme: String, opener: Opener) {
        self.0.insert(scheme, opener);
    }

    /// Whether `url` is Celery's `rpc://`: results are messages, and go through the broker.
    pub(crate) fn is_rpc(&self, url: &str) -> bool {
        let scheme = url.split_once(':').map_or(url, |(scheme, _)| scheme);
        scheme.eq_ignore_ascii_case("rpc") && !self.0.contains_key(scheme)
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
        // Those of Redis and RabbitMQ may be written in any case.
        let lower = scheme.to_ascii_lowercase();
        let in_any_case =
            feature_of(&lower).is_some_and(|feature| feature.starts_with("redis") || feature.starts_with("amqp"));
        let opener = self.0.get(scheme).or_else(|| self.0.get(&lower).filter(|_| in_any_case));
        let Some(opener) = opener else {
            if let Some(feature) = feature_of(&lower) {
                let message = format!("a URL that begins with `{scheme}` needs cargo feature `{feature}` of celeriac");
                return Err(Error::config("open", message));
            }
            let message = format!("the URL's scheme `{scheme}` is not known; known schemes are {}", known());
            return Err(Error::config("open", message));
        };
        opener(url.to_owned()).await
    }
}

/// The feature that a scheme needs, if it is one of ours.
fn feature_of(scheme: &str) -> Option<&'static str> {
    match scheme {
        "amqp" | "pyamqp" => Some("amqp"),
        "amqps" => Some("amqp-tls"),
        "memory" => Some("memory"),
        "sqlite" => Some("sqlite"),
        "rediss" | "valkeys" | "sentinels" => Some("redis-tls"),
        "redis" | "redis+socket" | "redis+unix" | "sentinel" | "unix" | "valkey" | "valkey+unix" => Some("redis"),
        _ => None,
    }
}

#[cfg(feature = "amqp")]
async fn amqp(url: String) -> Result<System> {
    let store = celeriac_amqp::AmqpStore::open(celeriac_amqp::AmqpConfig::from_url(&url)?).await?;
    Ok(System::new().broker(store.broker()).backend(store.backend()))
}

#[cfg(feature = "redis")]
async fn redis(url: String) -> Result<System> {
    let store = celeriac_redis::RedisStore::open(celeriac_redis::RedisConfig::from_url(&url)?).await?;
    let system = System::new().broker(store.broker()).backend(store.backend());
    #[cfg(feature = "beat")]
    let system = system.schedule(store.schedule());
    Ok(system)
}

#[cfg(feature = "memory")]
async fn memory(url: String) -> Result<System> {
    let name = url.strip_prefix("memory:").unwrap_or_default().trim_start_matches('/');
    if let Some((_, options)) = name.split_once('?') {
        return Err(Error::config("open", format!("a memory URL has no options, but `{options}` was given")));
    }
    let store =
        if name.is_empty() { celeriac_memory::MemoryStore::new() } else { celeriac_memory::MemoryStore::named(name) };
    let system = System::new().broker(Arc::new(store.clone())).backend(Arc::new(store.clone()));
    Ok(system.schedule(Arc::new(store)))
}

#[cfg(feature = "sqlite")]
async fn sqlite(url: String) -> Result<System> {
    open_sqlite(celeriac_sqlite::SqliteConfig::from_url(&url)?).await
}

#[cfg(feature = "sqlite")]
async fn open_sqlite(config: celeriac_sqlite::SqliteConfig) -> Result<System> {
    let store = celeriac_sqlite::SqliteStore::open(config).await?;
    let system = System::new().broker(store.broker()).backend(store.backend());
    #[cfg(feature = "beat")]
    let system = system.schedule(store.schedule());
    Ok(system)
}

/// Opens the embedded file that programs of the app `name` share; its folder is created. By its path: a folder's name may hold anything.
#[cfg(feature = "sqlite")]
pub(crate) async fn embedded(name: &str) -> Result<System> {
    let set = |name| std::env::var_os(name).filter(|path| !path.is_empty()).map(PathBuf::from);
    let data = set("XDG_DATA_HOME").or_else(|| Some(set("HOME")?.join(".local/share")));
    embedded_in(data, name).await
}

#[cfg(feature = "sqlite")]
async fn embedded_in(data: Option<PathBuf>, name: &str) -> Result<System> {
    if name.is_empty() || name.starts_with('.') || name.contains(['/', '\\', '\0']) {
        let message =
            format!("the app's name `{name}` cannot be a file's; name a broker by URL, or choose another name");
        return Err(Error::config("open", message));
    }
    let data = data.ok_or_else(|| {
        Error::config("open", "there is no `HOME` to keep the embedded file in; set CELERIAC_BROKER_URL, such as sqlite:///path/to/file.db")
    })?;
    let folder = data.join("celeriac");
    std::fs::create_dir_all(&folder).map_err(|error| {
        Error::config("open", format!("the folder `{}` for the embedded file cannot be created", folder.display()))
            .with_source(error)
    })?;
    open_sqlite(celeriac_sqlite::SqliteConfig::new(folder.join(format!("{name}.db")))).await
}

#[cfg(not(feature = "sqlite"))]
pub(crate) async fn embedded(_name: &str) -> Result<System> {
    let message =
        "no broker is named, and the embedded file needs feature `sqlite`; set `broker_url` or CELERIAC_BROKER_URL";
    Err(Error::config("open", message))
}

#[cfg(all(test, feature = "sqlite"))]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_embedded_file_may_be_in_a_folder_of_any_name() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("100%20?#&=").join("ü %");
        let system = embedded_in(Some(data.clone()), "shop 50%?").await.unwrap();
        assert!(data.join("celeriac/shop 50%?.db").is_file());
        let entries = std::fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(entries, 1, "nothing is written elsewhere");
        system.broker.unwrap().close().await.unwrap();
        system.backend.unwrap().close().await.unwrap();
    }

    #[tokio::test]
    async fn an_app_whose_name_is_no_files_is_refused_by_name() {
        for name in ["", ".", "..", "a/b", "a\\b", "a\0b"] {
            let error = embedded_in(Some(PathBuf::from("/nowhere")), name).await.unwrap_err();
            assert!(error.to_string().contains("app's name"), "{error}");
        }
    }
}

#[cfg(all(test, feature = "redis"))]
mod redis_tests {
    use super::*;

    #[cfg(not(feature = "redis-tls"))]
    #[tokio::test]
    async fn tls_to_redis_is_refused_with_the_feature_that_lacks() {
        for url in ["rediss://localhost", "valkeys://localhost", "sentinels://localhost?master_name=main"] {
            let error = Systems::default().open(url).await.unwrap_err();
            assert_eq!(error.kind(), celeriac_core::ErrorKind::Config);
            assert!(error.to_string().contains("feature `redis-tls` of celeriac"), "{error}");
        }
    }

    #[tokio::test]
    async fn every_scheme_of_redis_is_known_in_any_case_and_needs_a_feature_of_redis() {
        for scheme in celeriac_redis::RedisConfig::SCHEMES {
            let encrypted = ["rediss", "valkeys", "sentinels"].contains(scheme);
            assert_eq!(feature_of(scheme), Some(if encrypted { "redis-tls" } else { "redis" }), "{scheme}");
            for scheme in [(*scheme).to_owned(), scheme.to_uppercase()] {
                // An option that no URL has is found by who reads the URL, and before anything is connected to.
                let socket = ["UNIX", "SOCKET"].iter().any(|kind| scheme.to_uppercase().ends_with(kind));
                let place = if socket { "/run/none" } else { "localhost/0" };
                let error = Systems::default().open(&format!("{scheme}://{place}?nonsense=1")).await.unwrap_err();
                assert!(error.to_string().contains("`nonsense`"), "{scheme}: {error}");
            }
        }
    }
}

#[cfg(all(test, feature = "amqp"))]
mod amqp_tests {
    use super::*;

    #[tokio::test]
    async fn every_scheme_of_rabbitmq_is_known_in_any_case_and_needs_a_feature_of_rabbitmq() {
        for scheme in celeriac_amqp::AmqpConfig::SCHEMES {
            assert_eq!(feature_of(scheme), Some(if *scheme == "amqps" { "amqp-tls" } else { "amqp" }), "{scheme}");
            for scheme in [(*scheme).to_owned(), scheme.to_uppercase()] {
                // An option that no URL has is found by who reads the URL, and before anything is connected to.
                let error = Systems::default().open(&format!("{scheme}://localhost?nonsense=1")).await.unwrap_err();
                assert!(error.to_string().contains("`nonsense`"), "{scheme}: {error}");
            }
        }
    }
}

//! Opens what an app stands on: broker, result backend, and store of schedules.

use std::sync::Arc;

use celeriac_backend::ResultBackend;
use celeriac_broker::Broker;
use celeriac_core::{Error, Result};
#[cfg(feature = "beat")]
use celeriac_schedule::ScheduleStore;

use crate::config::Config;
use crate::system::{self, System, Systems};

/// What the code gives, whatever the URLs say.
#[derive(Debug, Default)]
pub(crate) struct Given {
    pub(crate) broker: Option<Arc<dyn Broker>>,
    pub(crate) backend: Option<Arc<dyn ResultBackend>>,
    #[cfg(feature = "beat")]
    pub(crate) schedule: Option<Arc<dyn ScheduleStore>>,
}

pub(crate) struct Opened {
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) backend: Option<Arc<dyn ResultBackend>>,
    #[cfg(feature = "beat")]
    pub(crate) schedule: Option<Arc<dyn ScheduleStore>>,
}

/// Systems that are open. Each is opened once, so that what it does in several roles can be one step: a result and an acknowledgement, a tick and
/// its task.
struct Open<'a> {
    systems: &'a Systems,
    by_url: Vec<(String, System)>,
}

impl Open<'_> {
    async fn system(&mut self, url: &str) -> Result<System> {
        if let Some((_, system)) = self.by_url.iter().find(|(known, _)| known == url) {
            return Ok(system.clone());
        }
        let system = self.systems.open(url).await?;
        self.by_url.push((url.to_owned(), system.clone()));
        Ok(system)
    }
}

pub(crate) async fn open(name: &str, config: &Config, systems: &Systems, given: Given) -> Result<Opened> {
    let mut open = Open { systems, by_url: Vec::new() };
    let broker_url = config.broker_url.as_ref().map(|url| url.0.as_str()).filter(|_| given.broker.is_none());
    let own = match (&given.broker, broker_url) {
        (Some(_), _) => System::new(),
        (None, Some(url)) => open.system(url).await?,
        (None, None) => system::embedded(name).await?,
    };
    let broker = given.broker.or(own.broker);
    let broker = broker.ok_or_else(|| Error::config("open", "the broker's URL names a system that is no broker"))?;

    let backend_url = config.result_backend.as_ref().map(|url| url.0.as_str());
    let of_results = match (&given.backend, backend_url) {
        (Some(_), _) | (None, None) => System::new(),
        (None, Some(url)) if systems.is_rpc(url) => {
            System::new().backend(by_messages(url, broker_url, own.backend.clone())?)
        }
        (None, Some(url)) => {
            let system = open.system(url).await?;
            if system.backend.is_none() {
                let message = "the result backend's URL names a system that stores no results";
                return Err(Error::config("open", message));
            }
            system
        }
    };
    #[cfg(feature = "beat")]
    let schedule = match (given.schedule, &config.schedule_url) {
        (Some(schedule), _) => Some(schedule),
        (None, Some(url)) => {
            let message = "the schedule's URL names a system that keeps no schedules";
            Some(open.system(&url.0).await?.schedule.ok_or_else(|| Error::config("open", message))?)
        }
        (None, None) => own.schedule.or(of_results.schedule),
    };
    let backend = given.backend.or(of_results.backend).or(own.backend);
    Ok(Opened {
        broker,
        backend,
        #[cfg(feature = "beat")]
        schedule,
    })
}

/// The backend of `rpc://`: that of the broker itself, where it has one that answers by messages.
fn by_messages(
    url: &str,
    broker_url: Option<&str>,
    own: Option<Arc<dyn ResultBackend>>,
) -> Result<Arc<dyn ResultBackend>> {
    if !matches!(url.to_ascii_lowercase().as_str(), "rpc" | "rpc:" | "rpc://") {
        let message =
            "the result backend `rpc://` stands alone: it goes through the broker, and has no host and no options";
        return Err(Error::config("open", message));
    }
    let of_rabbitmq = |url: &&str| {
        let scheme = url.split_once(':').map_or("", |(scheme, _)| scheme);
        ["amqp", "amqps", "pyamqp"].iter().any(|name| name.eq_ignore_ascii_case(scheme))
    };
    broker_url.filter(of_rabbitmq).and(own).ok_or_else(|| {
        let message =
            "the result backend `rpc://` takes RabbitMQ as broker, by a URL that begins with `amqp://` or `amqps://`";
        Error::config("open", message)
    })
}

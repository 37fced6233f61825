//! Who sends: this process's name, as Celery writes it.

use std::sync::{Arc, LazyLock};

/// The name of this host: `HOSTNAME`, else what the kernel says, else `localhost`.
#[must_use]
pub fn hostname() -> Arc<str> {
    static HOSTNAME: LazyLock<Arc<str>> = LazyLock::new(|| {
        let named = |name: String| Some(name.trim().to_owned()).filter(|name| !name.is_empty());
        std::env::var("HOSTNAME")
            .ok()
            .and_then(named)
            .or_else(|| std::fs::read_to_string("/proc/sys/kernel/hostname").ok().and_then(named))
            .or_else(|| std::fs::read_to_string("/etc/hostname").ok().and_then(named))
            .unwrap_or_else(|| "localhost".to_owned())
            .into()
    });
    Arc::clone(&HOSTNAME)
}

/// The `origin` header of what this process sends: `gen<pid>@<host>`.
#[must_use]
pub fn origin() -> Arc<str> {
    static ORIGIN: LazyLock<Arc<str>> = LazyLock::new(|| format!("gen{}@{}", std::process::id(), hostname()).into());
    Arc::clone(&ORIGIN)
}

//! The #[celeriac::task] attribute

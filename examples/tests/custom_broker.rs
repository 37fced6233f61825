//! The broker of the example keeps the contract of every broker, and the example runs.

#[path = "../custom_broker/fifo.rs"]
mod fifo;

mod contract {
    use std::sync::Arc;

    use celeriac::broker::Broker;

    use crate::fifo::Fifo;

    celeriac_testkit::broker_conformance!(|| async { Arc::new(Fifo::default()) as Arc<dyn Broker> });
}

//! The broker traits of celeriac: Broker, Consumer, Delivery, Settle

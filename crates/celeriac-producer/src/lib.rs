//! Encodes, routes and publishes celeriac tasks, and waits for their results

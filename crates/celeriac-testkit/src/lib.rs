//! Conformance suites for celeriac brokers, result backends and serializers

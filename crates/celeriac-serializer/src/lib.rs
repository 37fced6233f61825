//! Serializers and compression of celeriac, by content type

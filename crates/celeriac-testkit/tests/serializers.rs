//! The serializer suite on celeriac's own formats, and on one that provides only what it must.

mod json {
    celeriac_testkit::serializer_conformance!(|| celeriac_serializer::Json);
}

mod msgpack {
    celeriac_testkit::serializer_conformance!(|| celeriac_serializer::Msgpack);
}

mod bincode {
    celeriac_testkit::serializer_conformance!(|| celeriac_serializer::Bincode);
}

mod yaml {
    celeriac_testkit::serializer_conformance!(|| celeriac_serializer::Yaml);
}

mod provided_methods {
    use celeriac_core::{ContentType, Result};
    use celeriac_serializer::{ContentEncoding, Msgpack, Serializer, Visit};

    #[derive(Debug)]
    struct Bare;

    impl Serializer for Bare {
        fn name(&self) -> &str {
            "bare"
        }

        fn content_type(&self) -> ContentType {
            ContentType::from_static("application/x-bare")
        }

        fn content_encoding(&self) -> ContentEncoding {
            ContentEncoding::Binary
        }

        fn encode(&self, value: &dyn erased_serde::Serialize, out: &mut Vec<u8>) -> Result<()> {
            Msgpack.encode(value, out)
        }

        fn decode(&self, data: &[u8], visit: Visit<'_>) -> Result<()> {
            Msgpack.decode(data, visit)
        }
    }

    celeriac_testkit::serializer_conformance!(|| Bare);
}

//! Joining, splitting and prepending, in every format.

#![cfg(test)]

use celeriac_core::{ErrorKind, Value};
use celeriac_serializer::{Body, Serializer, SerializerExt as _, Serializers};

const FORMATS: [&str; 4] = ["json", "msgpack", "bincode", "yaml"];

fn formats() -> impl Iterator<Item = std::sync::Arc<dyn Serializer>> {
    let formats = Serializers::new();
    FORMATS.into_iter().filter_map(move |name| formats.by_name(name).ok().cloned())
}

#[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
struct Embed {
    chain: Option<Vec<String>>,
}

fn body(format: &dyn Serializer) -> Vec<u8> {
    let body = Body {
        args: vec![format.to_bytes(&2_u8).unwrap().into(), format.to_bytes(&Some("x")).unwrap().into()],
        kwargs: vec![("ké\"y".into(), format.to_bytes(&1.5).unwrap().into())],
        embed: format.to_bytes(&Embed { chain: None }).unwrap().into(),
    };
    body.join(format).unwrap()
}

#[test]
fn a_result_is_prepended_without_knowing_the_types() {
    for format in formats() {
        let format = format.as_ref();
        let data = body(format);
        let mut body = Body::split(format, &data).unwrap();
        body.prepend(format.to_bytes(&vec![(1_u8, "first")]).unwrap());
        let joined = body.join(format).unwrap();

        let body = Body::split(format, &joined).unwrap();
        assert_eq!(format.from_bytes::<Vec<(u8, String)>>(&body.args[0]).unwrap(), [(1, "first".to_owned())]);
        assert_eq!(format.from_bytes::<u8>(&body.args[1]).unwrap(), 2);
        assert_eq!(format.from_bytes::<Option<String>>(&body.args[2]).unwrap().as_deref(), Some("x"));
        assert_eq!(body.kwargs[0].0, "ké\"y");
        assert_eq!(format.from_bytes::<Embed>(&body.embed).unwrap(), Embed { chain: None });
    }
}

#[test]
fn joined_values_decode_as_a_whole() {
    for format in formats() {
        let (mut list, mut map) = (Vec::new(), Vec::new());
        let (one, text) = (format.to_bytes(&1_u64).unwrap(), format.to_bytes("x").unwrap());
        format.join_list(&[&one, &text], &mut list).unwrap();
        assert_eq!(format.from_bytes::<(u64, String)>(&list).unwrap(), (1, "x".to_owned()), "{format:?}");

        #[derive(Debug, PartialEq, serde::Deserialize)]
        struct Meta {
            status: String,
            result: u64,
        }
        format.join_map(&[("status", &text), ("result", &one)], &mut map).unwrap();
        let meta: Meta = format.from_bytes(&map).unwrap();
        assert_eq!(meta, Meta { status: "x".to_owned(), result: 1 }, "{format:?}");
    }
}

#[test]
fn ids_fit_as_text_and_as_ids_in_every_format() {
    let id = uuid::Uuid::from_u128(7);
    for format in formats() {
        let data = format.to_bytes(&id).unwrap();
        assert_eq!(format.from_bytes::<uuid::Uuid>(&data).unwrap(), id, "{format:?}");
        let mut text = Vec::new();
        format.encode_value(&Value::from(id.to_string()), &mut text).unwrap();
        assert_eq!(format.from_bytes::<uuid::Uuid>(&text).unwrap(), id, "{format:?}");
        let mut list = Vec::new();
        format.join_list(&[&text, &data], &mut list).unwrap();
        assert_eq!(format.from_bytes::<Vec<uuid::Uuid>>(&list).unwrap(), [id, id], "{format:?}");
    }
}

#[test]
fn a_wrong_body_is_refused_by_what_is_wrong() {
    for format in formats() {
        let format = format.as_ref();
        let (mut list, mut map) = (Vec::new(), Vec::new());
        format.join_list(&[], &mut list).unwrap();
        format.join_map(&[], &mut map).unwrap();
        let join = |parts: &[&[u8]]| {
            let mut out = Vec::new();
            format.join_list(parts, &mut out).unwrap();
            out
        };
        let cases = [
            (map.clone(), "the body is not a list"),
            (join(&[&list, &map]), "the body has 2 elements, not 3"),
            (join(&[&map, &map, &map]), "the positional arguments are not a list"),
            (join(&[&list, &list, &map]), "the keyword arguments are not a map"),
        ];
        for (data, message) in cases {
            let error = Body::split(format, &data).unwrap_err();
            assert_eq!((error.kind(), error.message()), (ErrorKind::Malformed, message), "{format:?}");
        }
        assert!(Body::split(format, &join(&[&list, &map, &map])).unwrap().args.is_empty());
    }
}

#[test]
fn integers_beyond_64_bits_survive_typed_in_every_format() {
    for format in formats() {
        for number in [i128::MIN, -1, 0, i128::MAX] {
            let data = format.to_bytes(&number).unwrap();
            assert_eq!(format.from_bytes::<i128>(&data).unwrap(), number, "{format:?}");
        }
    }
}

#[cfg(feature = "json")]
mod registry {
    use celeriac_serializer::Json;

    use super::*;

    #[test]
    fn json_alone_is_accepted_at_first() {
        let formats = Serializers::new();
        assert_eq!(formats.for_content_type(Some("application/json; charset=utf-8")).unwrap().name(), "json");
        for refused in ["application/x-msgpack", "application/x-nothing", "application/data"] {
            let error = formats.for_content_type(Some(refused)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            assert!(error.message().contains(refused) && error.message().contains("`application/json`"), "{error}");
        }
        assert_eq!(formats.for_content_type(None).unwrap_err().kind(), ErrorKind::Malformed);
    }

    #[test]
    fn pickle_is_refused_by_name() {
        let formats = Serializers::new();
        let error = formats.for_content_type(Some("application/x-python-serialize")).unwrap_err();
        assert!(error.message().contains("pickle"), "{error}");
        assert!(formats.by_name("pickle").unwrap_err().message().contains("refused"));
        assert_eq!(formats.accept(["json", "pickle"]).unwrap_err().kind(), ErrorKind::Config);
    }

    #[test]
    fn a_format_of_the_users_own_takes_part_through_values() {
        #[derive(Debug)]
        struct Mine;
        impl Serializer for Mine {
            fn name(&self) -> &str {
                "mine"
            }
            fn content_type(&self) -> celeriac_core::ContentType {
                celeriac_core::ContentType::from_static("application/x-mine")
            }
            fn content_encoding(&self) -> celeriac_serializer::ContentEncoding {
                celeriac_serializer::ContentEncoding::Utf8
            }
            fn encode(&self, value: &dyn erased_serde::Serialize, out: &mut Vec<u8>) -> celeriac_core::Result<()> {
                Json.encode(value, out)
            }
            fn decode(&self, data: &[u8], visit: celeriac_serializer::Visit<'_>) -> celeriac_core::Result<()> {
                Json.decode(data, visit)
            }
        }
        let formats = Serializers::new().register(std::sync::Arc::new(Mine)).accept(["mine"]).unwrap();
        let mine = formats.for_content_type(Some("application/x-mine")).unwrap().as_ref();
        let data = body(mine);
        let mut body = Body::split(mine, &data).unwrap();
        body.prepend(mine.to_bytes(&true).unwrap());
        let joined = body.join(mine).unwrap();
        assert_eq!(Body::split(mine, &joined).unwrap().args.len(), 3);
        assert!(formats.for_content_type(Some("application/json")).is_err());
    }
}

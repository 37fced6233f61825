//! The serializer suite: its table of behaviours, and the macro that makes tests of them.

mod garbage;
mod joining;
mod kit;
mod values;

use std::sync::Arc;

use celeriac_serializer::Serializer;

use crate::suite::{Behaviour, suite};

pub use kit::{SerializerKit, SerializerTraits};

/// What [`serializer_conformance!`](crate::serializer_conformance) takes: a function that makes a [`Serializer`].
pub trait IntoSerializer {
    /// The serializer.
    fn into_serializer(self) -> Arc<dyn Serializer>;
}

impl<F, S> IntoSerializer for F
where
    F: FnOnce() -> S,
    S: Serializer,
{
    fn into_serializer(self) -> Arc<dyn Serializer> {
        Arc::new(self())
    }
}

/// One thing that every serializer does.
pub type SerializerBehaviour = Behaviour<SerializerKit, SerializerTraits>;

impl SerializerBehaviour {
    /// Tests this behaviour; if the format lacks what it needs, says so on stderr instead.
    ///
    /// # Panics
    /// If the serializer does not behave so.
    pub async fn check(&self, serializer: Arc<dyn Serializer>) {
        let kit = Arc::new(SerializerKit::new(serializer));
        if let Some(missing) = (self.missing)(&kit.traits()) {
            crate::suite::skipped("serializer", self.name, missing);
        } else {
            (self.run)(kit).await;
        }
    }
}

/// Tests the behaviour `name`: what [`serializer_conformance!`](crate::serializer_conformance) calls.
///
/// # Panics
/// If the serializer does not behave so, or no behaviour has that name.
pub fn check(serializer: impl IntoSerializer, name: &str) {
    let behaviour = BEHAVIOURS.iter().find(|one| one.name == name).expect("the behaviour is one of `BEHAVIOURS`");
    let serializer = serializer.into_serializer();
    crate::suite::run("serializer", behaviour.name, behaviour.contract, behaviour.check(serializer));
}

suite! { ($) serializer, SerializerBehaviour,
    /// Makes one `#[test]` of every behaviour of a serializer.
    ///
    /// Takes a function that makes a [`Serializer`](celeriac_serializer::Serializer).
    ///
    /// # Examples
    /// ```no_run
    /// mod json {
    ///     celeriac_testkit::serializer_conformance!(|| celeriac_serializer::Json);
    /// }
    /// ```
    macro serializer_conformance;

    // Values and types.
    values::any_value_comes_back:
        "`decode_value` reads back whatever `encode_value` wrote";
    values::typed_data_comes_back:
        "`decode` reads back whatever `encode` wrote, into the same types";
    values::encoding_appends:
        "`encode` appends to its buffer and leaves what is there";
    values::another_type_is_an_error:
        "reading a value as a type it cannot be is a `Malformed` error";
    values::a_failing_visit_is_an_error:
        "an error of `visit` is an error of `decode`";
    values::typed_data_is_read_as_a_value needs self_describing:
        "what `encode` wrote can be read by `decode_value`, where the bytes say what they are";

    // Joining and splitting.
    joining::a_joined_list_splits_into_its_items:
        "`split_list` takes apart what `join_list` put together";
    joining::a_joined_map_splits_into_its_entries:
        "`split_map` takes apart what `join_map` put together, in order";
    joining::joined_values_are_read_as_a_whole:
        "what was joined is read like what was encoded at once";
    joining::joining_nests:
        "joined lists and maps may be joined again";
    joining::an_item_can_be_put_in_front:
        "a list can be split, an item put in front, and joined again, without knowing the types";
    joining::an_encoded_list_of_values_splits:
        "`split_list` and `split_map` take apart also what `encode_value` wrote";
    joining::an_encoded_typed_list_splits needs self_describing:
        "`split_list` and `split_map` take apart also what `encode` wrote, where the bytes say what they are";
    joining::what_is_no_list_or_map_is_not_split:
        "splitting what is no list, or no map, is an error";

    // Bytes of strangers.
    garbage::trailing_bytes_are_refused:
        "bytes after a value are refused";
    garbage::a_part_is_refused:
        "a value whose end is missing is refused";
    garbage::random_bytes_never_panic:
        "no method panics, whatever the bytes hold";
    garbage::damaged_bytes_never_panic:
        "no method panics on bytes that were valid before they were damaged";
    garbage::deep_nesting_never_overflows_the_stack:
        "no method overflows the stack, however deep the bytes nest";
    garbage::claimed_lengths_allocate_nothing:
        "no method allocates what the bytes only claim to hold";
}

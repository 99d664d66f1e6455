//! JSON read strictly: what the data model of serde lets pass and we do not.
//!
//! Derived structs also accept arrays, and optional fields also accept null; maps and values keep the last of two equal
//! keys. The types here refuse that, and bound how much memory a document makes.

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// How much of a text from a file an error shows.
const SHOWN_CHARS: usize = 64;
/// How long the text of a JSON error gets.
const MESSAGE_CHARS: usize = 240;

/// A text from a file as an error shows it: quoted, without control characters, cut short.
pub fn quoted(text: &str) -> String {
    format!("`{}`", shortened(text, SHOWN_CHARS))
}

/// What is wrong, in serde's words: with its place in the text if the JSON is broken, without if only its content is.
pub fn detail(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rsplit_once(" at line ") {
        Some((message, _)) if error.is_data() => shortened(message, MESSAGE_CHARS),
        _ if error.is_data() => shortened(&text, MESSAGE_CHARS),
        _ => format!("is not valid JSON: {}", shortened(&text, MESSAGE_CHARS)),
    }
}

fn shortened(text: &str, chars: usize) -> String {
    let mut short: String = text.chars().take(chars).flat_map(plain).collect();
    if text.chars().nth(chars).is_some() {
        short.push_str("...");
    }
    short
}

fn plain(c: char) -> impl Iterator<Item = char> {
    let escaped = c.is_control().then(|| c.escape_default());
    let kept = escaped.is_none().then_some(c);
    escaped.into_iter().flatten().chain(kept)
}

/// Where and what: the path to what is wrong, empty for the document itself, and the words.
pub struct Fault {
    pub path: String,
    pub detail: String,
}

/// Reads a document. What serde says of a key (unknown, twice, missing) becomes a fault of the path with that key.
pub fn read<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, Fault> {
    let mut reader = serde_json::Deserializer::from_str(text);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let path = match error.path().to_string() {
            path if path == "." => String::new(),
            path => path,
        };
        let detail = detail(error.inner());
        if error.inner().is_data() { key_fault(path, detail) } else { Fault { path: String::new(), detail } }
    })?;
    reader.end().map_err(|error| Fault { path: String::new(), detail: detail(&error) })?;
    Ok(value)
}

fn key_fault(path: String, detail: String) -> Fault {
    let fault = [
        ("unknown field `", "is not a known key"),
        ("duplicate field `", "is there twice"),
        ("missing field `", "is missing"),
    ]
    .into_iter()
    .find_map(|(prefix, words)| {
        let (key, _) = detail.strip_prefix(prefix)?.split_once('`')?;
        Some((key, words))
    });
    let Some((key, words)) = fault else { return Fault { path, detail } };
    let is_there = path == key || path.strip_suffix(key).is_some_and(|parent| parent.ends_with('.'));
    let path = match (path.is_empty(), is_there && words != "is missing") {
        (true, _) => key.into(),
        (false, true) => path,
        (false, false) => format!("{path}.{key}"),
    };
    Fault { path, detail: words.into() }
}

/// A JSON string, borrowed where it holds no escapes.
#[derive(Deserialize, PartialEq, Eq, Hash)]
#[serde(transparent)]
pub struct Text<'a>(#[serde(borrow)] pub Cow<'a, str>);

/// A derived struct that is an object, and not an array of its fields.
pub struct Object<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Fields<T> {
            type Value = T;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map))
            }
        }
        deserializer.deserialize_map(Fields(PhantomData)).map(Object)
    }
}

/// An array of no more than `MAX` entries.
pub struct List<T, const MAX: usize>(pub Vec<T>);

impl<'de, T: Deserialize<'de>, const MAX: usize> Deserialize<'de> for List<T, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries<T, const MAX: usize>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for Entries<T, MAX> {
            type Value = Vec<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<T>, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = seq.next_element()? {
                    if entries.len() == MAX {
                        return Err(A::Error::custom(format_args!("has more than {MAX} entries")));
                    }
                    entries.push(entry);
                }
                Ok(entries)
            }
        }
        deserializer.deserialize_seq(Entries::<T, MAX>(PhantomData)).map(List)
    }
}

/// For `#[serde(default, deserialize_with = "present")]`: an optional field is absent or has a value, never null.
pub fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// Any JSON object, of no more than `MAX` values at any depth, without duplicate keys.
pub struct Tree<const MAX: usize>(pub Map<String, Value>);

impl<'de, const MAX: usize> Deserialize<'de> for Tree<MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let budget = Cell::new(MAX);
        let branch = Branch { budget: &budget, max: MAX, taken: false };
        deserializer.deserialize_map(Fields(branch)).map(Tree)
    }
}

/// One value of a [`Tree`], under the key that was read before it.
#[derive(Clone, Copy)]
struct Branch<'b> {
    budget: &'b Cell<usize>,
    max: usize,
    /// Whether the object has this key already. Refused with the value, where the path to it is known.
    taken: bool,
}

impl Branch<'_> {
    fn spend<E: serde::de::Error>(&self) -> Result<(), E> {
        if self.taken {
            return Err(E::custom("is there twice"));
        }
        match self.budget.get().checked_sub(1) {
            Some(rest) => {
                self.budget.set(rest);
                Ok(())
            }
            None => Err(E::custom(format_args!("has more than {} values", self.max))),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Branch<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.spend()?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Branch<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("is not a finite number"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.into()))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = seq.next_element_seed(self)? {
            entries.push(entry);
        }
        Ok(Value::Array(entries))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Value, A::Error> {
        Fields(self).visit_map(map).map(Value::Object)
    }
}

/// The entries of an object of a [`Tree`].
struct Fields<'b>(Branch<'b>);

impl<'de> Visitor<'de> for Fields<'_> {
    type Value = Map<String, Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Map<String, Value>, A::Error> {
        let mut fields = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            let taken = fields.contains_key(&key);
            let value = map.next_value_seed(Branch { taken, ..self.0 })?;
            fields.insert(key, value);
        }
        Ok(fields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct Pair {
        #[serde(default, deserialize_with = "present")]
        a: Option<u8>,
    }

    fn tree(json: &str) -> Result<Map<String, Value>, String> {
        serde_json::from_str::<Tree<8>>(json).map(|tree| tree.0).map_err(|error| detail(&error))
    }

    #[test]
    fn an_object_is_not_an_array_and_a_field_is_not_null() {
        let read = |json| serde_json::from_str::<Object<Pair>>(json).map(|pair| pair.0.a);
        assert_eq!(read(r#"{"a":1}"#).unwrap(), Some(1));
        assert_eq!(read("{}").unwrap(), None);
        assert_eq!(detail(&read("[1]").unwrap_err()), "invalid type: sequence, expected an object");
        assert_eq!(detail(&read(r#"{"a":null}"#).unwrap_err()), "invalid type: null, expected u8");
    }

    #[test]
    fn a_fault_names_the_path_to_its_key() {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Outer {
            #[expect(dead_code)]
            inner: List<Object<Inner>, 4>,
        }
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Inner {
            #[expect(dead_code)]
            a: Vec<u8>,
        }
        let fault = |json| read::<Object<Outer>>(json).err().map(|fault| format!("{}: {}", fault.path, fault.detail));
        assert_eq!(fault(r#"{"inner":[{"a":[1]}]}"#), None);
        assert_eq!(fault(r#"{"inner":[{"a":[1]},{"a":[1,-2]}]}"#).unwrap(), {
            "inner[1].a[1]: invalid value: integer `-2`, expected u8"
        });
        assert_eq!(fault(r#"{"inner":[{"a":[1],"b":2}]}"#).unwrap(), "inner[0].b: is not a known key");
        assert_eq!(fault(r#"{"inner":[{"a":[1],"a":[2]}]}"#).unwrap(), "inner[0].a: is there twice");
        assert_eq!(fault(r#"{"inner":[{}]}"#).unwrap(), "inner[0].a: is missing");
        assert_eq!(fault("{}").unwrap(), "inner: is missing");
        assert_eq!(fault(r#"{"x":1}"#).unwrap(), "x: is not a known key");
        assert_eq!(fault("[[]]").unwrap(), ": invalid type: sequence, expected an object");
        assert_eq!(fault(r#"{"inner":[]} x"#).unwrap(), {
            ": is not valid JSON: trailing characters at line 1 column 14"
        });
        assert_eq!(fault(r#"{"inner":["#).unwrap(), {
            ": is not valid JSON: EOF while parsing a list at line 1 column 10"
        });
    }

    #[test]
    fn a_tree_is_what_was_written() {
        let json = r#"{"a":[1,-2,0.5,"x"],"b":{"c":null,"d":true}}"#;
        assert_eq!(Value::Object(tree(json).unwrap()), serde_json::from_str::<Value>(json).unwrap());
    }

    #[test]
    fn a_tree_has_no_key_twice_and_no_more_values_than_allowed() {
        assert_eq!(tree(r#"{"a":{"b":1,"b":2}}"#).unwrap_err(), "is there twice");
        assert_eq!(tree("{\"a\":[0,0,0,0,0,0,0]}").unwrap().len(), 1);
        assert_eq!(tree("{\"a\":[0,0,0,0,0,0,0,0]}").unwrap_err(), "has more than 8 values");
        assert_eq!(tree("[]").unwrap_err(), "invalid type: sequence, expected an object");
    }

    #[test]
    fn depth_is_bounded_by_an_error() {
        let json = format!("{{\"a\":{}", "[".repeat(100_000));
        assert!(
            serde_json::from_str::<Tree<1_000_000>>(&json).is_err_and(|error| error.to_string().contains("recursion"))
        );
    }

    #[test]
    fn a_list_is_bounded() {
        let read = |json| serde_json::from_str::<List<u8, 2>>(json).map(|list| list.0);
        assert_eq!(read("[1,2]").unwrap(), [1, 2]);
        assert_eq!(detail(&read("[1,2,3]").unwrap_err()), "has more than 2 entries");
    }

    #[test]
    fn shown_text_is_short_and_has_no_control_characters() {
        assert_eq!(quoted("a\n\u{0}é"), "`a\\n\\u{0}é`");
        assert_eq!(quoted(&"x".repeat(65)), format!("`{}...`", "x".repeat(64)));
    }
}

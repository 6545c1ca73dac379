//! The fields of one object: found without a tree, read when it is known what they have to be.

use std::borrow::Cow;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use tidegate_core::{ChannelName, Epoch, Position};

use super::{INTEGER_MAX, scan};

/// A field that is missing or is not what it has to be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct Wrong {
    /// The field's name, with a dot before a part of it: `since.offset`.
    pub field: &'static str,
    /// What is wrong with it.
    pub problem: Cow<'static, str>,
}

/// Declares a struct of [`Field`]s that reads itself from an object: names it does not know are skipped, of a repeated name
/// the last counts, and no value is looked into. `in "since."` is put before the names in errors; `= "type"` is for a field
/// whose name Rust keeps to itself or that says too little.
macro_rules! fields {
    (@name $field:ident) => { stringify!($field) };
    (@name $field:ident $key:literal) => { $key };
    ($(#[$doc:meta])* $object:ident { $($fields:tt)* }) => { fields! { $(#[$doc])* $object in "" { $($fields)* } } };
    ($(#[$doc:meta])* $object:ident in $prefix:literal { $($field:ident $(= $key:literal)?,)* }) => {
        $(#[$doc])*
        pub(super) struct $object<'a> {
            $(pub(super) $field: $crate::json::fields::Field<'a>,)*
        }

        const _: () = {
            use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, Visitor};
            use $crate::json::fields::Field;

            #[allow(non_camel_case_types, reason = "named after the fields")]
            enum Key { $($field,)* Other }

            struct KeyVisitor;

            impl Visitor<'_> for KeyVisitor {
                type Value = Key;

                fn expecting(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                    out.write_str("a name")
                }

                fn visit_str<E: Error>(self, name: &str) -> Result<Key, E> {
                    $(if name == fields!(@name $field $($key)?) {
                        return Ok(Key::$field);
                    })*
                    Ok(Key::Other)
                }
            }

            impl<'de> Deserialize<'de> for Key {
                fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
                    json.deserialize_identifier(KeyVisitor)
                }
            }

            struct ObjectVisitor;

            impl<'de> Visitor<'de> for ObjectVisitor {
                type Value = $object<'de>;

                fn expecting(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                    out.write_str("an object")
                }

                fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                    let mut object = $object {
                        $($field: Field { name: concat!($prefix, fields!(@name $field $($key)?)), raw: None },)*
                    };
                    while let Some(name) = map.next_key::<Key>()? {
                        match name {
                            $(Key::$field => object.$field.raw = Some(map.next_value()?),)*
                            Key::Other => { map.next_value::<IgnoredAny>()?; }
                        }
                    }
                    Ok(object)
                }
            }

            impl<'de> Deserialize<'de> for $object<'de> {
                fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
                    json.deserialize_map(ObjectVisitor)
                }
            }
        };
    };
}
pub(super) use fields;

/// One field's JSON text, `None` where it is absent.
#[derive(Clone, Copy)]
pub(super) struct Field<'a> {
    pub(super) name: &'static str,
    pub(super) raw: Option<&'a RawValue>,
}

impl<'a> Field<'a> {
    /// Whether it is there and not null.
    pub(super) fn is_given(&self) -> bool {
        self.given().is_some()
    }

    pub(super) fn text(&self) -> Result<Option<Cow<'a, str>>, Wrong> {
        let Some(json) = self.given() else { return Ok(None) };
        let Some(inner) = json.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
            return Err(self.wrong("is not a string"));
        };
        if !inner.contains('\\') {
            return Ok(Some(Cow::Borrowed(inner)));
        }
        let unescaped = serde_json::from_str(json).map_err(|_| self.wrong(LONE_SURROGATE))?;
        Ok(Some(Cow::Owned(unescaped)))
    }

    pub(super) fn boxed(&self) -> Result<Option<Box<str>>, Wrong> {
        Ok(self.text()?.map(Into::into))
    }

    /// An integer from `least` to [`INTEGER_MAX`].
    pub(super) fn integer(&self, least: u64) -> Result<Option<u64>, Wrong> {
        let Some(json) = self.given() else { return Ok(None) };
        match json.parse() {
            // A sign is no part of what is asked for; Rust would take a plus, which JSON has already refused.
            Ok(number) if (least..=INTEGER_MAX).contains(&number) => Ok(Some(number)),
            _ => Err(self.wrong(format!("is not an integer from {least} to {INTEGER_MAX}"))),
        }
    }

    /// True or false; false where it is absent.
    pub(super) fn flag(&self) -> Result<bool, Wrong> {
        match self.given() {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(self.wrong("is not true or false")),
        }
    }

    pub(super) fn channel(&self) -> Result<ChannelName, Wrong> {
        let text = self.required(self.text()?)?;
        ChannelName::new(&text).map_err(|invalid| self.wrong(invalid.to_string()))
    }

    /// Any JSON value (null is one), byte for byte.
    pub(super) fn value(&self) -> Result<Bytes, Wrong> {
        let json = self.required(self.raw)?.get();
        if scan::has_lone_surrogate(json) {
            return Err(self.wrong(LONE_SURROGATE));
        }
        Ok(Bytes::copy_from_slice(json.as_bytes()))
    }

    pub(super) fn object<T: Deserialize<'a>>(&self) -> Result<Option<T>, Wrong> {
        let Some(json) = self.given() else { return Ok(None) };
        serde_json::from_str(json).map(Some).map_err(|_| self.wrong("is not an object"))
    }

    /// The one of `all` that has this name.
    pub(super) fn one_of<T: Copy>(&self, all: &[T], name: fn(T) -> &'static str) -> Result<T, Wrong> {
        let text = self.required(self.text()?)?;
        all.iter().copied().find(|&one| name(one) == text).ok_or_else(|| self.wrong("has a value that this version does not know"))
    }

    pub(super) fn required<T>(&self, value: Option<T>) -> Result<T, Wrong> {
        value.ok_or_else(|| self.wrong("is missing"))
    }

    pub(super) fn wrong(&self, problem: impl Into<Cow<'static, str>>) -> Wrong {
        Wrong { field: self.name, problem: problem.into() }
    }

    /// Its JSON where it is there and not null: to an optional field, null is as good as nothing.
    fn given(&self) -> Option<&'a str> {
        self.raw.map(RawValue::get).filter(|&json| json != "null")
    }
}

const LONE_SURROGATE: &str = "has an escape that is half of a surrogate pair";

/// A position from the two fields that carry it. An epoch that is none of ours is unknown and never matches.
pub(super) fn position(epoch: &Field<'_>, offset: &Field<'_>) -> Result<Position, Wrong> {
    let text = epoch.required(epoch.text()?)?;
    let epoch = text.parse().unwrap_or(Epoch::UNKNOWN);
    let offset = offset.required(offset.integer(0)?)?;
    Ok(Position { epoch, offset })
}

//! Values as bytes: what a typed layer needs to keep its responses in a store that several instances share.

use std::error::Error;

use bytes::Bytes;

/// Turns values into bytes and back, for [`CachebackLayer::store`](crate::CachebackLayer::store).
///
/// What was written by one codec or for one type is not read by another or for another: a record names both.
///
/// ```
/// use cacheback::Codec;
///
/// struct Text;
///
/// impl Codec<String> for Text {
///     fn encode(&self, value: &String) -> Result<Vec<u8>, cacheback::CodecError> {
///         Ok(value.clone().into_bytes())
///     }
///
///     fn decode(&self, bytes: &[u8]) -> Result<String, cacheback::CodecError> {
///         Ok(std::str::from_utf8(bytes)?.to_owned())
///     }
/// }
/// ```
pub trait Codec<T>: Send + Sync + 'static {
    /// The bytes of a value.
    ///
    /// # Errors
    ///
    /// If it has none. Then it is not kept in the store.
    fn encode(&self, value: &T) -> Result<Vec<u8>, CodecError>;

    /// The value of these bytes. They are as `encode` made them, unless whoever wrote them had another idea of the type.
    ///
    /// # Errors
    ///
    /// If they are none. Then nothing is taken to be stored.
    fn decode(&self, bytes: &[u8]) -> Result<T, CodecError>;

    /// The same, of bytes that the value may keep for itself.
    #[doc(hidden)]
    fn decode_shared(&self, bytes: Bytes) -> Result<T, CodecError> {
        self.decode(&bytes)
    }
}

/// Why a value could not be turned into bytes, or bytes into a value.
pub type CodecError = Box<dyn Error + Send + Sync>;

/// Values as JSON, by their `serde` traits (feature `serde`). For people who look into the store, and for types that change: unknown
/// fields are ignored unless the type says otherwise.
#[cfg(feature = "serde")]
#[derive(Clone, Copy, Debug, Default)]
pub struct Json;

/// Values as [postcard](https://postcard.jamesmunns.com/wire-format), by their `serde` traits (feature `serde`): small and
/// fast. It says nothing of the type: a field that is added, removed or moved makes other values of old bytes. Give such
/// a type another name, or another namespace in its keys.
#[cfg(feature = "serde")]
#[derive(Clone, Copy, Debug, Default)]
pub struct Postcard;

#[cfg(feature = "serde")]
impl<T: serde::Serialize + serde::de::DeserializeOwned> Codec<T> for Json {
    fn encode(&self, value: &T) -> Result<Vec<u8>, CodecError> {
        Ok(serde_json::to_vec(value)?)
    }

    fn decode(&self, bytes: &[u8]) -> Result<T, CodecError> {
        Ok(serde_json::from_slice(bytes)?)
    }
}

#[cfg(feature = "serde")]
impl<T: serde::Serialize + serde::de::DeserializeOwned> Codec<T> for Postcard {
    fn encode(&self, value: &T) -> Result<Vec<u8>, CodecError> {
        Ok(postcard::to_allocvec(value)?)
    }

    fn decode(&self, bytes: &[u8]) -> Result<T, CodecError> {
        match postcard::take_from_bytes(bytes)? {
            (value, []) => Ok(value),
            _ => Err("more bytes than the value has".into()),
        }
    }
}

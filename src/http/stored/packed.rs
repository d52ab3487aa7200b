//! A stored response as bytes, for a store that other processes read.
//!
//! | bytes | what |
//! |---|---|
//! | 2 | the status |
//! | 1 | whether its entity tag is ours, and whether it has trailers |
//! | 4 + n | what caches further in said in `Cache-Status` |
//! | 4, then 4 + n each | what the service said to this cache alone |
//! | 4, then 4 + n and 4 + n each | its fields: name and value |
//! | the same | its trailers, if it has any |
//! | the rest | the body |
//!
//! Nothing is copied as it is read: fields and body are parts of the record that came.

use bytes::{Buf, Bytes};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header::AGE};

use crate::{
    codec::{Codec, CodecError},
    http::stored::{Beside, CACHE_STATUS, PLACES, StoredResponse, is_dated},
};

/// The codec of what HTTP and gRPC layers store.
#[derive(Debug)]
pub(crate) struct Packed;

const TAGGED: u8 = 1;
const TRAILERS: u8 = 2;

impl Codec<StoredResponse> for Packed {
    fn encode(&self, stored: &StoredResponse) -> Result<Vec<u8>, CodecError> {
        let mut out = Vec::with_capacity(256 + stored.body.len());
        out.extend_from_slice(&stored.status.as_u16().to_be_bytes());
        let trailers = if stored.trailers().is_some() { TRAILERS } else { 0 };
        out.push(trailers | if stored.tagged { TAGGED } else { 0 });
        part(&mut out, stored.said())?;
        number(&mut out, stored.own_lines().len())?;
        for line in stored.own_lines() {
            part(&mut out, line.as_bytes())?;
        }
        fields(&mut out, stored.fields(), stored.headers.len() - PLACES)?;
        if let Some(trailers) = stored.trailers() {
            fields(&mut out, trailers.iter(), trailers.len())?;
        }
        out.extend_from_slice(&stored.body);
        Ok(out)
    }

    fn decode(&self, bytes: &[u8]) -> Result<StoredResponse, CodecError> {
        self.decode_shared(Bytes::copy_from_slice(bytes))
    }

    fn decode_shared(&self, bytes: Bytes) -> Result<StoredResponse, CodecError> {
        let mut rest = Rest(bytes);
        let status = StatusCode::from_u16(rest.0.try_get_u16()?)?;
        let flags = rest.0.try_get_u8()?;
        let said = rest.part()?.to_vec();
        let own = (0..rest.0.try_get_u32()?).map(|_| rest.value()).collect::<Result<_, _>>()?;
        let headers = rest.fields(&[(AGE, "0"), (CACHE_STATUS, "")])?;
        let trailers = if flags & TRAILERS == 0 { None } else { Some(rest.fields(&[])?) };
        let tagged = flags & TAGGED != 0;
        let beside = Beside::of(trailers, said, own);
        let is_dated = is_dated(&headers);
        Ok(StoredResponse { status, headers, body: rest.0, beside, tagged, fits: false, is_dated })
    }
}

/// What is left to be read.
struct Rest(Bytes);

impl Rest {
    fn part(&mut self) -> Result<Bytes, CodecError> {
        let length = usize::try_from(self.0.try_get_u32()?)?;
        if length > self.0.len() {
            return Err(odd());
        }
        Ok(self.0.split_to(length))
    }

    fn value(&mut self) -> Result<HeaderValue, CodecError> {
        Ok(HeaderValue::from_maybe_shared(self.part()?)?)
    }

    /// Fields, after those whose values have no meaning yet.
    fn fields<const N: usize>(&mut self, places: &[(HeaderName, &'static str); N]) -> Result<HeaderMap, CodecError> {
        let count = usize::try_from(self.0.try_get_u32()?)?;
        // Each of them takes 8 bytes at least.
        let mut fields = HeaderMap::try_with_capacity(N + count.min(self.0.len() / 8))?;
        for (name, value) in places {
            fields.try_insert(name, HeaderValue::from_static(value))?;
        }
        for _ in 0..count {
            let length = usize::try_from(self.0.try_get_u32()?)?;
            let name = HeaderName::from_bytes(self.0.get(..length).ok_or_else(odd)?)?;
            self.0.advance(length);
            if places.iter().any(|(place, _)| *place == name) {
                // Nothing that is stored says so itself.
                return Err("a field that is written for each reader".into());
            }
            fields.try_append(name, self.value()?)?;
        }
        Ok(fields)
    }
}

fn odd() -> CodecError {
    "a part is longer than all of it".into()
}

fn fields<'a>(
    out: &mut Vec<u8>,
    fields: impl Iterator<Item = (&'a HeaderName, &'a HeaderValue)>,
    count: usize,
) -> Result<(), CodecError> {
    number(out, count)?;
    for (name, value) in fields {
        part(out, name.as_str().as_bytes())?;
        part(out, value.as_bytes())?;
    }
    Ok(())
}

fn part(out: &mut Vec<u8>, part: &[u8]) -> Result<(), CodecError> {
    number(out, part.len())?;
    out.extend_from_slice(part);
    Ok(())
}

fn number(out: &mut Vec<u8>, number: usize) -> Result<(), CodecError> {
    out.extend_from_slice(&u32::try_from(number)?.to_be_bytes());
    Ok(())
}

#[cfg(all(test, not(cacheback_model)))]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::http::{Mode, unstored::Unstored};

    prop_compose! {
        fn response()(
            status in 200..600_u16, names in prop::collection::vec("x-[a-c]", 0..6), trailers: bool, tagged: bool,
            body: Vec<u8>, said in "[a-z]{0,3}", own in prop::collection::vec("[ -~]{0,3}", 0..3),
        ) -> StoredResponse {
            let mut head = http::Response::new(()).into_parts().0;
            head.status = StatusCode::from_u16(status).expect("a status");
            for (at, name) in names.iter().enumerate() {
                head.headers.append(HeaderName::try_from(name).expect("a name"), HeaderValue::from(at));
            }
            let trailers = trailers.then(|| head.headers.clone());
            let omitted = Unstored::new(Mode::Protocol).of(&head.headers, None);
            let mut stored = StoredResponse::new(&head, &omitted).complete(body.into(), trailers, &omitted);
            stored.tagged = tagged;
            let own = own.iter().map(|own| HeaderValue::from_str(own).expect("a value")).collect();
            stored.beside = Beside::of(stored.trailers().cloned(), said.into(), own);
            stored
        }
    }

    fn text(stored: &StoredResponse) -> String {
        let StoredResponse { status, headers, body, beside: _, tagged, fits: _, is_dated } = stored;
        // The order of fields, and of the lines of each, counts.
        let headers: Vec<_> = headers.iter().collect();
        let trailers = stored.trailers().map(|trailers| trailers.iter().collect::<Vec<_>>());
        let (said, own) = (stored.said(), stored.own_lines());
        format!("{status} {headers:?} {body:?} {trailers:?} {said:?} {own:?} {tagged} {is_dated}")
    }

    proptest! {
        #[test] // P64
        fn what_is_packed_is_unpacked_field_by_field_and_byte_by_byte(stored in response()) {
            let bytes = Bytes::from(Packed.encode(&stored).unwrap());
            let read = Packed.decode_shared(bytes.clone()).unwrap();
            prop_assert_eq!(text(&read), text(&stored));
            // The body is the record's own end, and values are parts of it.
            let shared = stored.body.is_empty() || read.body.as_ptr_range().end == bytes.as_ptr_range().end;
            prop_assert!(shared);
            let all = bytes.as_ptr_range();
            prop_assert!(read.fields().all(|(_, value)| value.is_empty() || all.contains(&value.as_bytes().as_ptr())));
        }

        #[test] // P64
        fn any_bytes_are_read_without_a_panic_and_without_room_for_what_they_claim(bytes: Vec<u8>, stored in response(), at: prop::sample::Index, byte: u8) {
            let mut changed = Packed.encode(&stored).unwrap();
            let at = at.index(changed.len());
            changed[at] = byte;
            for bytes in [bytes, changed] {
                let taken = allocation_counter::measure(|| drop(Packed.decode(&bytes)));
                prop_assert!(taken.bytes_max < 64 << 10, "{} bytes", taken.bytes_max);
            }
        }
    }

    #[test] // P64
    fn a_record_that_says_itself_what_is_written_for_each_reader_is_not_read() {
        let head = http::Response::new(()).into_parts().0;
        let omitted = Unstored::new(Mode::Protocol).of(&head.headers, None);
        let read = |more: Option<HeaderName>| {
            let mut stored = StoredResponse::new(&head, &omitted).complete(Bytes::new(), None, &omitted);
            more.into_iter().for_each(|name| _ = stored.headers.append(name, HeaderValue::from_static("7")));
            Packed.decode(&Packed.encode(&stored).unwrap())
        };
        assert!(read(None).is_ok());
        for name in [AGE, CACHE_STATUS] {
            assert!(read(Some(name.clone())).is_err(), "{name}");
        }
    }
}

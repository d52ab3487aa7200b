//! Which node of a cluster a key is on: arithmetic, and what nodes say of it.

use redis::{ServerError, ServerErrorKind, Value};

/// How many slots there are.
const SLOTS: usize = 1 << 14;

/// An address as nodes tell it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Address {
    /// Empty where it is that of the node which tells it.
    pub(super) host: String,
    pub(super) port: u16,
}

/// The masters, and which slots are whose.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) masters: Vec<Address>,
    /// For each slot the place of its master among them.
    owners: Vec<Option<u16>>,
}

/// A node's answer that another one has the key: for good, or while it moves there.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Redirect {
    pub(super) to: Address,
    pub(super) is_moving: bool,
}

/// The slot of a key: of its hash tag, where it has one.
pub(super) fn slot(key: &[u8]) -> u16 {
    let tag = key.iter().position(|byte| *byte == b'{').and_then(|open| {
        let rest = &key[open + 1..];
        rest.iter().position(|byte| *byte == b'}').filter(|length| *length > 0).map(|length| &rest[..length])
    });
    crc16(tag.unwrap_or(key)) % SLOTS as u16
}

/// CRC-16/XMODEM, as the specification of Redis Cluster has it.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| (crc << 1) ^ if crc >> 15 == 1 { 0x1021 } else { 0 })
    })
}

impl Table {
    /// Reads what `CLUSTER SLOTS` answers. A slot that it does not name has no owner.
    pub(super) fn read(answer: &Value) -> Option<Self> {
        let Value::Array(ranges) = answer else { return None };
        let mut table = Self { masters: Vec::new(), owners: vec![None; SLOTS] };
        for range in ranges {
            let Value::Array(range) = range else { return None };
            let [Value::Int(from), Value::Int(to), Value::Array(master), ..] = range.as_slice() else { return None };
            let [host, Value::Int(port), ..] = master.as_slice() else { return None };
            let host = match host {
                // A node that was told to give names and has none.
                Value::BulkString(host) if host == b"?" => String::new(),
                Value::BulkString(host) => String::from_utf8(host.clone()).ok()?,
                Value::SimpleString(host) => host.clone(),
                Value::Nil => String::new(),
                _ => return None,
            };
            let master = Address { host, port: u16::try_from(*port).ok()? };
            let known = table.masters.iter().position(|known| *known == master);
            let owner = known.unwrap_or_else(|| {
                table.masters.push(master);
                table.masters.len() - 1
            });
            let (from, to) = (usize::try_from(*from).ok()?, usize::try_from(*to).ok()?);
            table.owners.get_mut(from..=to)?.fill(Some(u16::try_from(owner).ok()?));
        }
        Some(table)
    }

    /// The place of a slot's master among the masters.
    pub(super) fn owner(&self, slot: u16) -> Option<usize> {
        self.owners.get(usize::from(slot)).copied().flatten().map(usize::from)
    }
}

impl Address {
    /// Where a node that was told it at this address finds it.
    pub(super) fn beside(&self, teller: &str) -> String {
        let host = match self.host.as_str() {
            "" => teller.rsplit_once(':').map_or(teller, |(host, _)| host),
            host => host,
        };
        format!("{host}:{}", self.port)
    }
}

impl Redirect {
    /// Reads an error: `MOVED 3999 127.0.0.1:6381`, `ASK 3999 [::1]:6381`.
    pub(super) fn read(error: &ServerError) -> Option<Self> {
        let is_moving = match error.kind()? {
            ServerErrorKind::Moved => false,
            ServerErrorKind::Ask => true,
            _ => return None,
        };
        let (host, port) = error.details()?.split(' ').nth(1)?.rsplit_once(':')?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        Some(Self { to: Address { host: host.to_owned(), port: port.parse().ok()? }, is_moving })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn array(values: impl IntoIterator<Item = Value>) -> Value {
        Value::Array(values.into_iter().collect())
    }

    fn text(text: &str) -> Value {
        Value::BulkString(text.into())
    }

    #[test]
    fn keys_are_in_the_slots_that_redis_puts_them_in() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
        // As `CLUSTER KEYSLOT` of a server answers.
        for (key, expected) in [
            ("", 0),
            ("foo", 12_182),
            ("123456789", 12_739),
            ("{foo}bar", 12_182),
            ("bar{foo}", 12_182),
            ("a{foo}b{bar}", 12_182),
            ("{}foo", 9_500),
            ("foo{}", 5_542),
            ("foo{{bar}}zap", 4_015),
            ("{foo", 13_308),
            ("foo}", 15_679),
        ] {
            assert_eq!(slot(key.as_bytes()), expected, "{key}");
        }
    }

    #[test]
    fn a_table_says_whose_slots_are_whose() {
        let node = |host, port| array([host, Value::Int(port), text("id"), array([])]);
        let answer = array([
            array([Value::Int(0), Value::Int(5), node(text("a"), 1), node(text("replica"), 9)]),
            array([Value::Int(6), Value::Int(6), node(Value::Nil, 2)]),
            array([Value::Int(8), Value::Int(16_383), node(text("a"), 1)]),
        ]);
        let table = Table::read(&answer).unwrap();
        let address = |host: &str, port| Address { host: host.into(), port };
        assert_eq!(table.masters, [address("a", 1), address("", 2)]);
        let owners = [0, 5, 6, 7, 8, 16_383].map(|slot| table.owner(slot));
        assert_eq!(owners, [Some(0), Some(0), Some(1), None, Some(0), Some(0)]);
    }

    #[test]
    fn what_is_no_table_is_none() {
        let node = || array([text("a"), Value::Int(1)]);
        for answer in [
            Value::Nil,
            array([Value::Int(1)]),
            array([array([Value::Int(0), Value::Int(1)])]),
            array([array([Value::Int(0), Value::Int(16_384), node()])]),
            array([array([Value::Int(-1), Value::Int(1), node()])]),
            array([array([Value::Int(2), Value::Int(0), node()])]),
            array([array([Value::Int(0), Value::Int(1), array([text("a"), Value::Int(65_536)])])]),
        ] {
            assert!(Table::read(&answer).is_none(), "{answer:?}");
        }
    }

    #[test]
    fn an_address_without_a_host_is_beside_the_node_that_tells_it() {
        let address = |host: &str| Address { host: host.into(), port: 2 };
        assert_eq!(address("").beside("here:1"), "here:2");
        assert_eq!(address("").beside("::1:1"), "::1:2");
        assert_eq!(address("there").beside("here:1"), "there:2");
    }

    #[test]
    fn a_redirect_says_where_to() {
        let read = |line: &str| {
            let Ok(Value::ServerError(error)) = redis::parse_redis_value(format!("-{line}\r\n").as_bytes()) else {
                panic!("not an error: {line}")
            };
            Redirect::read(&error)
        };
        let redirect =
            |host: &str, port, is_moving| Some(Redirect { to: Address { host: host.into(), port }, is_moving });
        assert_eq!(read("MOVED 3999 127.0.0.1:6381"), redirect("127.0.0.1", 6381, false));
        assert_eq!(read("ASK 3999 redis.example:1"), redirect("redis.example", 1, true));
        assert_eq!(read("MOVED 3999 ::1:6381"), redirect("::1", 6381, false));
        assert_eq!(read("MOVED 3999 [::1]:6381"), redirect("::1", 6381, false));
        assert_eq!(read("MOVED 3999 :6381"), redirect("", 6381, false));
        for other in ["MOVED", "MOVED 3999", "MOVED 3999 host", "MOVED 3999 host:x", "ERR 3999 host:1", "OOM x y:1"] {
            assert_eq!(read(other), None, "{other}");
        }
    }
}

//! How messages lie in a body: five bytes before each say whether it is compressed, and how long it is.

/// How many bytes stand before a message.
pub(crate) const PREFIX: usize = 5;

/// Counts the bytes of a body that is to be one message, whatever frames they come in.
#[derive(Clone, Debug, Default)]
pub(crate) struct Count {
    prefix: [u8; PREFIX],
    read: u64,
}

/// How much of one message there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SoFar {
    Part,
    Whole,
    /// It says of itself that it is over the cap.
    TooLarge,
    /// There is something after it.
    More,
}

impl Count {
    /// Takes note of the bytes that come next.
    pub(crate) fn add(&mut self, data: &[u8]) {
        let at = usize::try_from(self.read).unwrap_or(PREFIX).min(PREFIX);
        self.prefix[at..].iter_mut().zip(data).for_each(|(place, byte)| *place = *byte);
        self.read = self.read.saturating_add(data.len() as u64);
    }

    /// How much of a message there is, where one may have so many bytes.
    pub(crate) fn so_far(&self, cap: usize) -> SoFar {
        let [_, length @ ..] = self.prefix;
        let length = u64::from(u32::from_be_bytes(length));
        let whole = PREFIX as u64 + length;
        if self.read < PREFIX as u64 {
            SoFar::Part
        } else if length > cap as u64 {
            SoFar::TooLarge
        } else if self.read < whole {
            SoFar::Part
        } else if self.read == whole {
            SoFar::Whole
        } else {
            SoFar::More
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn so_far(pieces: &[&[u8]], cap: usize) -> SoFar {
        let mut count = Count::default();
        pieces.iter().for_each(|piece| count.add(piece));
        count.so_far(cap)
    }

    #[test] // P80
    fn a_message_is_whole_when_it_is_as_long_as_it_says() {
        let message = [0, 0, 0, 0, 3, 7, 8, 9, 0];
        for (length, expected) in [
            (0, SoFar::Part),
            (4, SoFar::Part),
            (5, SoFar::Part),
            (7, SoFar::Part),
            (8, SoFar::Whole),
            (9, SoFar::More),
        ] {
            for cut in 0..=length {
                assert_eq!(so_far(&[&message[..cut], &[], &message[cut..length]], 3), expected, "{length} at {cut}");
            }
        }
        assert_eq!(so_far(&[&[0, 0, 0, 0, 0]], 0), SoFar::Whole);
    }

    #[test] // P80
    fn a_message_over_the_cap_is_known_by_its_first_bytes() {
        assert_eq!(so_far(&[&[0, 0, 0, 0, 4]], 3), SoFar::TooLarge);
        assert_eq!(so_far(&[&[1, 255, 255, 255], &[255]], usize::MAX), SoFar::Part);
        assert_eq!(so_far(&[&[1, 255, 255, 255], &[255]], 1 << 20), SoFar::TooLarge);
    }
}

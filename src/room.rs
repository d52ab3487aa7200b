//! Bytes on the stack for as long as they are few: a hit builds its key and its status there and allocates nothing.

use std::fmt;

/// Room for `N` bytes on the stack, and on the heap for all of them where they are more.
#[derive(Clone)]
pub(crate) struct Room<const N: usize> {
    stack: [u8; N],
    /// How many there are; more than `N` once they are on the heap.
    length: usize,
    heap: Vec<u8>,
}

impl<const N: usize> Room<N> {
    #[inline]
    pub(crate) fn push(&mut self, byte: u8) {
        self.extend(&[byte]);
    }

    #[inline]
    pub(crate) fn extend(&mut self, bytes: &[u8]) {
        let free = self.stack.get_mut(self.length..).unwrap_or_default();
        match free.get_mut(..bytes.len()) {
            Some(place) => {
                place.copy_from_slice(bytes);
                self.length += bytes.len();
            }
            None => self.spill(bytes),
        }
    }

    pub(crate) fn clear(&mut self) {
        self.length = 0;
        self.heap.clear();
    }

    #[inline]
    pub(crate) fn as_slice(&self) -> &[u8] {
        self.stack.get(..self.length).unwrap_or(&self.heap)
    }

    #[cold]
    fn spill(&mut self, bytes: &[u8]) {
        if let Some(written) = self.stack.get(..self.length) {
            self.heap.reserve(2 * (written.len() + bytes.len()));
            self.heap.extend_from_slice(written);
            self.length = N + 1;
        }
        self.heap.extend_from_slice(bytes);
    }
}

impl<const N: usize> Default for Room<N> {
    #[inline]
    fn default() -> Self {
        Self { stack: [0; N], length: 0, heap: Vec::new() }
    }
}

impl<const N: usize> fmt::Debug for Room<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_slice().escape_ascii().fmt(f)
    }
}

#[cfg(all(test, not(cacheback_model)))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_read_back_whether_there_is_room_or_not(parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..8), 0..12)) {
            let mut room = Room::<16>::default();
            // Once more: what was cleared has left nothing behind.
            for _ in 0..2 {
                room.clear();
                for part in &parts {
                    room.extend(part);
                    part.first().into_iter().for_each(|byte| room.push(*byte));
                }
                let expected: Vec<_> = parts.iter().flat_map(|part| part.iter().chain(part.first())).copied().collect();
                prop_assert_eq!(room.as_slice(), expected);
            }
        }
    }
}

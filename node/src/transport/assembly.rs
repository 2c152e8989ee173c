//! Objects that are being pulled into memory: their chunks so far, what they must be when all of them are here, and how many chunks
//! all of them may ask for at once. Who asks whom is left to the caller; when to ask, to [`super::pull`].

use crate::protocol::content::Content;

use super::object::{CHUNK_BYTES, Chunk, ObjectId, PullRequest};
use super::pull::Pull;

/// One object on its way.
#[derive(Clone, Debug)]
pub struct Assembly {
    object: ObjectId,
    content: Content,
    pull: Pull,
    bytes: Vec<u8>,
}

impl Assembly {
    /// Nothing of `object` is here yet. The caller has checked that its size is one that it has room for.
    pub fn new(object: ObjectId, content: Content, now: u64) -> Assembly {
        let mut pull = Pull::new(u64::from(content.size), CHUNK_BYTES);
        pull.resume(now);
        Assembly { object, content, pull, bytes: vec![0; content.size as usize] }
    }

    /// What it must become.
    pub fn content(&self) -> Content {
        self.content
    }

    /// When it last came on, ns.
    pub fn heard_at(&self) -> u64 {
        self.pull.heard_at()
    }

    /// Chunks that are asked for and not here.
    pub fn in_flight(&self) -> usize {
        self.pull.in_flight()
    }

    /// When [`Assembly::requests`] is due.
    pub fn next_deadline(&self) -> u64 {
        self.pull.next_deadline().unwrap_or(u64::MAX)
    }

    /// What to ask whoever has it; see [`Pull::requests`].
    pub fn requests(&mut self, now: u64, window: usize) -> Vec<PullRequest> {
        let ranges = self.pull.requests(now, window);
        PullRequest::all(self.object, now, &ranges)
    }

    /// Another one is asked from now on.
    pub fn resume(&mut self, now: u64) {
        self.pull.resume(now);
    }

    /// Takes a chunk. Returns the whole object with its last one. If it is not what it must be, everything is fetched again:
    /// nobody can say which part was wrong.
    pub fn chunk(&mut self, now: u64, chunk: &Chunk<'_>) -> Option<Vec<u8>> {
        if chunk.object != self.object || !self.pull.chunk(now, chunk.asked_at, chunk.offset, chunk.bytes) {
            return None;
        }
        // The pull has checked that it lies within the object.
        let at = chunk.offset as usize;
        self.bytes[at..at + chunk.bytes.len()].copy_from_slice(chunk.bytes);
        if !self.pull.is_complete() {
            return None;
        }
        if Content::of(&self.bytes) != self.content {
            self.pull = Pull::new(u64::from(self.content.size), CHUNK_BYTES);
            self.pull.resume(now);
            return None;
        }
        Some(std::mem::take(&mut self.bytes))
    }
}

/// How many chunks the objects that are looked at one after the other may still have in flight, together: the first takes what it
/// can, so that one is whole before the next begins.
#[derive(Debug)]
pub struct Window(usize);

impl Window {
    /// A window of this many chunks.
    pub fn new(chunks: usize) -> Window {
        Window(chunks)
    }

    /// What to ask for of the next object; see [`Assembly::requests`].
    pub fn requests(&mut self, now: u64, assembly: &mut Assembly) -> Vec<PullRequest> {
        let requests = if self.0 > 0 { assembly.requests(now, self.0) } else { Vec::new() };
        self.0 = self.0.saturating_sub(assembly.in_flight());
        requests
    }

    /// When [`Window::requests`] has something to ask for of the next object.
    pub fn next_deadline(&mut self, assembly: &Assembly) -> u64 {
        let deadline = if self.0 > 0 { assembly.next_deadline() } else { u64::MAX };
        self.0 = self.0.saturating_sub(assembly.in_flight());
        deadline
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OBJECT: ObjectId = ObjectId::Request { nonce: 1, sequence: 2 };

    fn chunks(object: &[u8], requests: &[PullRequest]) -> Vec<(u64, Vec<u8>)> {
        let places = requests.iter().flat_map(|request| request.chunks(object.len() as u64));
        places.map(|(offset, length)| (offset, object[offset as usize..][..length].to_vec())).collect()
    }

    #[test]
    fn an_object_is_given_out_whole_and_only_if_it_is_the_right_one() {
        let object: Vec<u8> = (0..3 * CHUNK_BYTES + 5).map(|at| at as u8).collect();
        let mut assembly = Assembly::new(OBJECT, Content::of(&object), 5);
        for round in 0..2 {
            let parts = chunks(&object, &assembly.requests(5, 8));
            assert_eq!(parts.len(), 4);
            for (at, (offset, bytes)) in parts.into_iter().enumerate() {
                let mut bytes = bytes;
                if round == 0 && at == 2 {
                    bytes[7] ^= 1;
                }
                let other = Chunk { object: OBJECT, asked_at: 5, offset, bytes: &bytes };
                let foreign = ObjectId::Request { nonce: 1, sequence: 3 };
                assert_eq!(assembly.chunk(6, &Chunk { object: foreign, ..other }), None);
                let whole = assembly.chunk(6, &other);
                let expected = (round == 1 && at == 3).then(|| object.clone());
                assert_eq!(whole, expected, "a damaged one is fetched again");
            }
        }
    }

    #[test]
    fn the_first_object_asks_for_what_the_window_holds_and_the_last_waits() {
        let object = |size: usize| Assembly::new(OBJECT, Content::of(&vec![1; size * CHUNK_BYTES]), 5);
        let mut all = [object(3), object(4), object(2)];
        let asked = |all: &mut [Assembly], chunks| {
            let mut window = Window::new(chunks);
            let mut count = |assembly: &mut Assembly| -> u64 {
                let requests = window.requests(5, assembly);
                requests.iter().flat_map(|request| &request.ranges).map(|range| range.bytes).sum()
            };
            all.iter_mut().map(|assembly| count(assembly) / CHUNK_BYTES as u64).collect::<Vec<_>>()
        };
        let due = |all: &[Assembly], chunks| {
            let mut window = Window::new(chunks);
            all.iter().map(|assembly| window.next_deadline(assembly)).collect::<Vec<_>>()
        };
        assert_eq!(due(&all, 7), [0; 3], "nothing was asked for");
        assert_eq!(asked(&mut all, 7), [3, 4, 0]);
        let later = all[0].next_deadline();
        assert!(later > 5);
        assert_eq!(due(&all, 7), [later, later, u64::MAX], "the third has to wait");
        assert_eq!(due(&all, 8), [later, later, 0], "if there is room for one");
        assert_eq!(asked(&mut all, 7), [0, 0, 0]);
        assert_eq!(asked(&mut all, 8), [0, 0, 1]);
    }
}

//! Numbers of free chunks in and out: a private pool for each queue, balanced through a depot that all queues share.
//!
//! Chunks wander: what one queue receives another one frees. They change hands by the magazine, so that the shared ring is
//! touched once for many chunks (the scheme of Bonwick and Adams, "Magazines and Vmem", 2001).

use std::sync::Arc;

use crossbeam_queue::ArrayQueue;

/// Chunks that change hands at once.
pub const MAGAZINE: usize = 64;

/// Chunks that a pool keeps at most once an operation is over.
pub const POOL: usize = 4 * MAGAZINE;

/// What all pools of a region share.
pub type Depot = Arc<ArrayQueue<[u32; MAGAZINE]>>;

/// A depot with room for all chunks of a region.
pub fn depot(chunks: usize) -> Depot {
    Arc::new(ArrayQueue::new(chunks / MAGAZINE + 1))
}

/// The free chunks of one queue.
#[derive(Debug)]
pub struct Pool {
    free: Vec<u32>,
    depot: Depot,
}

impl Pool {
    /// A pool with these chunks to begin with.
    pub fn new(chunks: impl Iterator<Item = u32>, depot: Depot) -> Pool {
        let mut free: Vec<u32> = chunks.collect();
        // No call lets the pool grow beyond its bound by more than a burst or two.
        free.reserve(2 * POOL);
        Pool { free, depot }
    }

    /// Free chunks at hand.
    #[inline]
    pub fn len(&self) -> usize {
        self.free.len()
    }

    /// Takes one chunk out, from the depot if none is at hand.
    #[inline]
    pub fn take(&mut self) -> Option<u32> {
        match self.free.pop() {
            None => self.restock(),
            chunk => chunk,
        }
    }

    /// Takes a magazine from the depot, and one chunk out.
    #[cold]
    fn restock(&mut self) -> Option<u32> {
        self.free.extend_from_slice(&self.depot.pop()?);
        self.free.pop()
    }

    /// Puts one chunk in, and hands a magazine to the depot when there are too many.
    #[inline]
    pub fn put(&mut self, chunk: u32) {
        self.free.push(chunk);
        if self.free.len() > POOL {
            self.spill();
        }
    }

    /// Hands what is beyond the bound to the depot.
    #[cold]
    pub fn spill(&mut self) {
        while self.free.len() > POOL {
            let rest = self.free.len() - MAGAZINE;
            let Some(magazine) = self.free.get(rest..).and_then(|tail| tail.try_into().ok()) else { return };
            // The depot has room for every chunk there is; if not, the chunks stay here.
            if self.depot.push(magazine).is_err() {
                return;
            }
            self.free.truncate(rest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_wander_from_the_pool_that_has_too_many_to_the_one_that_has_none() {
        let depot = depot(1000);
        let mut giver = Pool::new(0..1000, Arc::clone(&depot));
        giver.spill();
        assert!(giver.len() <= POOL);
        let mut taker = Pool::new(0..0, Arc::clone(&depot));
        let mut seen: Vec<u32> =
            std::iter::from_fn(|| taker.take()).chain(std::iter::from_fn(|| giver.take())).collect();
        seen.sort_unstable();
        assert_eq!(seen, (0..1000).collect::<Vec<u32>>(), "every chunk once");
    }

    #[test]
    fn a_pool_that_only_gets_chunks_stays_within_its_bound() {
        let depot = depot(10_000);
        let mut pool = Pool::new(0..0, Arc::clone(&depot));
        for chunk in 0..10_000 {
            pool.put(chunk);
            assert!(pool.len() <= POOL);
        }
        assert_eq!(pool.len() + depot.len() * MAGAZINE, 10_000);
    }
}

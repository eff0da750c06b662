//! Indices of the kernel's flow counters.

/// Which indices are free. None is ever handed out twice at a time; one that was given back waits
/// until those before it were used again, so that a packet still under way on another CPU counts
/// for nobody.
#[derive(Debug)]
pub(super) struct CounterIndices {
    next: u32,
    limit: u32,
    free: std::collections::VecDeque<u32>,
}

impl CounterIndices {
    pub(super) fn new(limit: u32) -> Self {
        Self {
            next: 0,
            limit,
            free: std::collections::VecDeque::new(),
        }
    }

    pub(super) fn take(&mut self) -> Option<u32> {
        if self.next < self.limit {
            self.next += 1;
            return Some(self.next - 1);
        }
        self.free.pop_front()
    }

    pub(super) fn give(&mut self, index: u32) {
        self.free.push_back(index);
    }

    /// How many can be taken.
    pub(super) fn left(&self) -> usize {
        (self.limit - self.next) as usize + self.free.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_given_back_is_taken_last() {
        let mut indices = CounterIndices::new(3);
        let first = indices.take().unwrap();
        indices.give(first);
        assert_eq!(indices.left(), 3);
        let rest = [indices.take(), indices.take(), indices.take()];
        assert_eq!(rest, [Some(1), Some(2), Some(first)]);
        assert_eq!(indices.take(), None);
        assert_eq!(indices.left(), 0);
    }
}

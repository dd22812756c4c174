//! Rows of sparse bits in, words out: the sets of entries that one class of a dimension can still match.

/// Bits per word, and words per summary word.
pub const WORD: usize = 64;

/// Many rows of bits over the same entries, stored by their non-zero words.
///
/// ```text
/// row r:  summaries[r*S .. r*S+S]   bit w set = word w of this row is not zero
///         ranks[r*S + s]            index in `words` of the first stored word of summary word s
/// ```
/// `S` is the number of summary words: one per 4,096 entries.
#[derive(Clone, Debug, Default)]
pub struct BitTable {
    summary_len: usize,
    summaries: Vec<u64>,
    ranks: Vec<u32>,
    words: Vec<u64>,
}

impl BitTable {
    /// A table without rows for this many entries.
    pub fn new(entries: usize) -> BitTable {
        BitTable { summary_len: entries.div_ceil(WORD).div_ceil(WORD), ..BitTable::default() }
    }

    /// Adds a row with these bits, ascending and without repeats; returns its index. Control line only.
    pub fn push(&mut self, ascending: impl IntoIterator<Item = u32>) -> u32 {
        self.push_words(ascending.into_iter().map(|bit| (bit / WORD as u32, 1u64 << (bit % WORD as u32))))
    }

    /// Adds a row with these words: number, ascending, and bits, of which some is set. A number may repeat. Control line only.
    pub fn push_words(&mut self, ascending: impl IntoIterator<Item = (u32, u64)>) -> u32 {
        let start = self.summaries.len();
        let row = start.checked_div(self.summary_len).unwrap_or(0);
        self.summaries.resize(start + self.summary_len, 0);
        let mut rank = self.words.len() as u32;
        for (word, bits) in ascending {
            let word = word as usize;
            let Some(summary) = self.summaries.get_mut(start + word / WORD) else { continue };
            if *summary >> (word % WORD) & 1 == 0 {
                *summary |= 1 << (word % WORD);
                self.words.push(0);
            }
            if let Some(stored) = self.words.last_mut() {
                *stored |= bits;
            }
        }
        for summary in &self.summaries[start..] {
            self.ranks.push(rank);
            rank += summary.count_ones();
        }
        row as u32
    }

    /// Summary words of a row.
    #[inline]
    pub fn summary(&self, row: u32, s: usize) -> u64 {
        self.summaries.get(row as usize * self.summary_len + s).copied().unwrap_or(0)
    }

    /// Word `w` of a row, 0 where it is not stored.
    #[inline]
    pub fn word(&self, row: u32, w: usize) -> u64 {
        let at = row as usize * self.summary_len + w / WORD;
        let (Some(&summary), Some(&rank)) = (self.summaries.get(at), self.ranks.get(at)) else { return 0 };
        let bit = 1u64 << (w % WORD);
        if summary & bit == 0 {
            return 0;
        }
        let before = (summary & (bit - 1)).count_ones();
        self.words.get((rank + before) as usize).copied().unwrap_or(0)
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.summaries.len().checked_div(self.summary_len).unwrap_or(0)
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        self.summaries.len() * 8 + self.ranks.len() * 4 + self.words.len() * 8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_give_back_their_bits() {
        let entries = 20_000;
        let mut table = BitTable::new(entries);
        let rows: Vec<Vec<u32>> = vec![
            vec![],
            vec![0],
            vec![19_999],
            vec![63, 64, 4_095, 4_096, 8_191, 12_288],
            (0..entries as u32).collect(),
            (0..entries as u32).filter(|b| b % 77 == 5).collect(),
        ];
        for row in &rows {
            table.push(row.iter().copied());
        }
        assert_eq!(table.rows(), rows.len());
        for (r, row) in rows.iter().enumerate() {
            let mut found = Vec::new();
            for w in 0..entries.div_ceil(WORD) {
                let word = table.word(r as u32, w);
                assert_eq!(word != 0, table.summary(r as u32, w / WORD) >> (w % WORD) & 1 == 1);
                found.extend((0..WORD as u32).filter(|b| word >> b & 1 == 1).map(|b| w as u32 * 64 + b));
            }
            assert_eq!(&found, row, "row {r}");
        }
    }

    #[test]
    fn a_table_for_no_entries_has_no_rows() {
        let mut table = BitTable::new(0);
        assert_eq!(table.push([]), 0);
        assert_eq!(table.word(0, 0), 0);
        assert_eq!(table.rows(), 0);
    }
}

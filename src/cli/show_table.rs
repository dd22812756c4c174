//! Headers and rows of cells in, columns as `calicoctl get -o wide` prints them out: no borders, three spaces between.

/// What stands where there is nothing.
pub const NOTHING: &str = "<none>";

/// Rows under headers, of which some are for `-o wide` only.
#[derive(Clone, Debug, Default)]
pub struct Table {
    headers: Vec<(&'static str, bool)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these columns; `true` marks those of the wide form only.
    pub fn new(headers: &[(&'static str, bool)]) -> Table {
        Table { headers: headers.to_vec(), rows: Vec::new() }
    }

    /// Adds a row: a cell for each column.
    pub fn push(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().map(|c| if c.is_empty() { NOTHING.to_string() } else { c }).collect());
    }

    /// Takes a column out.
    pub fn remove(&mut self, header: &str) {
        if let Some(at) = self.headers.iter().position(|(name, _)| *name == header) {
            self.headers.remove(at);
            for row in self.rows.iter_mut().filter(|row| at < row.len()) {
                row.remove(at);
            }
        }
    }

    /// The table as text.
    pub fn text(&self, is_wide: bool, has_headers: bool) -> String {
        let shown = |at: &usize| is_wide || self.headers.get(*at).is_some_and(|(_, only_wide)| !only_wide);
        let columns: Vec<usize> = (0..self.headers.len()).filter(shown).collect();
        let names: Vec<String> = self.headers.iter().map(|(name, _)| name.to_string()).collect();
        let lines: Vec<&Vec<String>> = has_headers.then_some(&names).into_iter().chain(&self.rows).collect();
        let cell = |line: &&Vec<String>, at: usize| line.get(at).map_or(0, |cell| cell.chars().count());
        let widths: Vec<usize> =
            columns.iter().map(|&at| lines.iter().map(|line| cell(line, at)).max().unwrap_or(0)).collect();
        let mut text = String::new();
        for line in lines {
            let mut padding = 0;
            for (&at, &width) in columns.iter().zip(&widths) {
                let cell = line.get(at).map_or("", String::as_str);
                text.extend(std::iter::repeat_n(' ', padding));
                text.push_str(cell);
                padding = width - cell.chars().count() + 3;
            }
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_longest_cell() {
        let mut table = Table::new(&[("NAME", false), ("TIER", true), ("ORDER", false)]);
        table.push(["deny-nodeports", "default", ""].map(String::from));
        table.push(["a", "kube-admin", "500"].map(String::from));
        let check = |is_wide, has_headers, expected: &str| assert_eq!(table.text(is_wide, has_headers), expected);
        check(false, true, "NAME             ORDER\ndeny-nodeports   <none>\na                500\n");
        check(false, false, "deny-nodeports   <none>\na                500\n");
        check(
            true,
            true,
            "NAME             TIER         ORDER\ndeny-nodeports   default      <none>\na                kube-admin   500\n",
        );
    }

    #[test]
    fn a_column_that_says_nothing_can_go() {
        let mut table = Table::new(&[("NAMESPACE", false), ("NAME", false)]);
        table.push(["", "x"].map(String::from));
        table.remove("NAMESPACE");
        assert_eq!(table.text(true, true), "NAME\nx\n");
    }
}

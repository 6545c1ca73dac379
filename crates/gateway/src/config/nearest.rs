//! Which known word somebody meant.

/// The known word with the fewest edits from this one, if a third of its letters or less are wrong.
pub(crate) fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let best = known.map(|candidate| (edits(word, candidate), candidate)).min()?;
    (best.0 <= (best.1.len().max(word.len()) / 3).max(1)).then_some(best.1)
}

/// Levenshtein's distance, with two neighbours exchanged counted as one edit.
fn edits(left: &str, right: &str) -> usize {
    let (left, right): (Vec<char>, Vec<char>) = (left.chars().collect(), right.chars().collect());
    let mut rows = vec![vec![0; right.len() + 1]; left.len() + 1];
    for (row, line) in rows.iter_mut().enumerate() {
        line[0] = row;
    }
    rows[0] = (0..=right.len()).collect();
    for row in 1..=left.len() {
        for column in 1..=right.len() {
            let differs = usize::from(left[row - 1] != right[column - 1]);
            let mut best = (rows[row - 1][column] + 1).min(rows[row][column - 1] + 1).min(rows[row - 1][column - 1] + differs);
            if row > 1 && column > 1 && left[row - 1] == right[column - 2] && left[row - 2] == right[column - 1] {
                best = best.min(rows[row - 2][column - 2] + 1);
            }
            rows[row][column] = best;
        }
    }
    rows[left.len()][right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typing_errors_find_their_word() {
        let known = ["listen", "path", "origins", "trusted_proxies", "tls"];
        let guess = |word| nearest(word, known.into_iter());
        assert_eq!(guess("lisen"), Some("listen"));
        assert_eq!(guess("orgins"), Some("origins"));
        assert_eq!(guess("trusted_proxy"), Some("trusted_proxies"));
        assert_eq!(guess("lts"), Some("tls"));
        assert_eq!(guess("certificate"), None);
        assert_eq!(edits("ab", "ba"), 1);
    }
}

//! What a fold sends, read back: array literals and binary COPY. Shares nothing with the code
//! that writes them.

pub type Cells = Vec<Option<Vec<u8>>>;
pub type Row = Vec<Option<String>>;

/// The elements of an array literal.
pub fn elements(literal: &str) -> Row {
    let inside = literal
        .strip_prefix('{')
        .and_then(|text| text.strip_suffix('}'));
    let mut rest = inside.expect("an array literal");
    let mut items = Vec::new();
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix("NULL") {
            items.push(None);
            rest = after;
        } else {
            let mut letters = rest.strip_prefix('"').expect("a quote").chars();
            let mut item = String::new();
            loop {
                match letters.next().expect("a closing quote") {
                    '"' => break,
                    '\\' => item.extend(letters.next()),
                    '\0' => panic!("NUL in a parameter"),
                    letter => item.push(letter),
                }
            }
            items.push(Some(item));
            rest = letters.as_str();
        }
        if !rest.is_empty() {
            rest = rest.strip_prefix(',').expect("a comma");
        }
    }
    items
}

/// The rows that several array literals of equal length spell.
pub fn rows(parameters: &[String]) -> Vec<Row> {
    let columns: Vec<Row> = parameters.iter().map(|each| elements(each)).collect();
    let length = columns.first().map_or(0, Vec::len);
    assert!(columns.iter().all(|column| column.len() == length));
    (0..length)
        .map(|row| columns.iter().map(|column| column[row].clone()).collect())
        .collect()
}

/// The rows of a binary COPY of `fields` columns.
pub fn tuples(copy: &[u8], fields: usize) -> Vec<Cells> {
    let mut rest = copy
        .strip_prefix(b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0")
        .expect("a header");
    let mut rows = Vec::new();
    let mut take = |count: usize| {
        let (head, tail) = rest.split_at_checked(count).expect("more of the COPY");
        rest = tail;
        head.to_vec()
    };
    loop {
        let count = i16::from_be_bytes(take(2).try_into().unwrap());
        if count == -1 {
            assert!(rest.is_empty(), "bytes after the trailer");
            return rows;
        }
        assert_eq!(usize::try_from(count), Ok(fields));
        let row = (0..fields).map(|_| {
            let length = i32::from_be_bytes(take(4).try_into().unwrap());
            (length != -1).then(|| take(usize::try_from(length).expect("a length")))
        });
        rows.push(row.collect());
    }
}

/// The text of a cell; `None` is NULL.
pub fn text(cell: Option<&Option<Vec<u8>>>) -> Option<String> {
    let bytes = cell?.as_ref()?;
    Some(String::from_utf8(bytes.clone()).expect("UTF-8"))
}

/// A cell of a boolean column; `None` is NULL.
pub fn flag(cell: Option<&Option<Vec<u8>>>) -> Option<bool> {
    let bytes = cell?.as_ref()?;
    assert!(matches!(bytes.as_slice(), [0 | 1]), "no boolean: {bytes:?}");
    Some(bytes == &[1])
}

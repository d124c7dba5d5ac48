//! Which collections are carried: an allow-list, asked before a record is touched.

/// Exact collections (`com.germnetwork.declaration`) and groups (`app.bsky.*`).
#[derive(Clone, Debug, Default)]
pub struct Filter {
    exact: Vec<String>,
    prefixes: Vec<String>,
}

impl Filter {
    /// A pattern is a collection, or a prefix that ends in `*`.
    pub fn new(patterns: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        let mut filter = Self::default();
        for pattern in patterns {
            let pattern = pattern.as_ref();
            match pattern.strip_suffix('*') {
                Some(prefix) => filter.prefixes.push(prefix.to_owned()),
                None => filter.exact.push(pattern.to_owned()),
            }
        }
        filter
    }

    /// Whether records of the collection are carried.
    #[inline]
    pub fn admits(&self, collection: &str) -> bool {
        let within = |prefix: &String| collection.starts_with(prefix.as_str());
        self.prefixes.iter().any(within) || self.exact.iter().any(|exact| exact == collection)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_exact_or_prefixes() {
        let filter = Filter::new(["app.bsky.*", "com.germnetwork.declaration"]);
        for (collection, admitted) in [
            ("app.bsky.feed.post", true),
            ("app.bskyfeed.post", false),
            ("app.bsky", false),
            ("com.germnetwork.declaration", true),
            ("com.germnetwork.declaration.more", false),
            ("", false),
        ] {
            assert_eq!(filter.admits(collection), admitted, "{collection}");
        }
        assert!(!Filter::default().admits("app.bsky.feed.post"));
        assert!(Filter::new(["*"]).admits("any.thing.else"));
    }
}

//! The documents of the formats are those of the tables in the code.

use weir::output::format::documents;

use crate::docs::fresh;

#[test]
fn the_documents_of_the_formats_are_fresh() {
    for (path, text) in documents() {
        fresh(&path, &text);
    }
}

package doctest_test

import "testing"

// The examples of docs/authoriser.md, as written, against the real program.
// feature: NEW-4
func TestAuthoriserExamples(t *testing.T) { runDocument(t, "../../docs/authoriser.md", nil) }

package doctest_test

import "testing"

// The examples of docs/templates.md, as written, against the real program.
// feature: CPS-19, PEER-11, S3-14, S3-15
func TestTemplateExamples(t *testing.T) { runDocument(t, "../../docs/templates.md", nil) }

package doctest_test

import "testing"

// The examples of docs/subscriptions.md, as written, against the real program.
// feature: CPS-8, CPS-11, CPS-12, CPS-14, CPS-15, CPS-7
func TestSubscriptionExamples(t *testing.T) { runDocument(t, "../../docs/subscriptions.md", nil) }

package script

import (
	"encoding/json"

	"github.com/belfryhq/belfry/internal/belfry"
)

// testBody is what a test of the channel brings.
func testBody(m *belfry.Message) []byte {
	text, _ := json.Marshal(map[string]any{"id": m.ID, "test": true}) // text always marshals
	return text
}

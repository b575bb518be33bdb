package ingest

import (
	"encoding/json"
	"strings"
	"testing"
)

// A schema that no event can be checked against is refused when it is saved:
// later it would refuse every event of its type.
func TestCheckSchema(t *testing.T) {
	for schema, says := range map[string]string{
		`{"type":"object","properties":{"n":{"type":"integer"}}}`: "",
		`{"$defs":{"a":{"type":"string"}},"$ref":"#/$defs/a"}`:    "",
		`{"type":"objekt"}`:                           "/type: value must be one of",
		`{"properties":{"n":{"minimum":"one"}}}`:      "/properties/n/minimum: ",
		`{"$ref":"file:///etc/passwd"}`:               "a schema must stand on its own",
		`{"$ref":"http://127.0.0.1:1/schema.json"}`:   "a schema must stand on its own",
		`{"$ref":"#/$defs/none"}`:                     "none",
		`{"properties":{"n":{"pattern":"("}}}`:        "/properties/n/pattern",
		`{"$ref":"#"}`:                                "",
		`{"allOf":[{"$ref":"#"}]}`:                    "",
		`{"type":"object","properties":"everything"}`: "/properties: ",
	} {
		err := CheckSchema(json.RawMessage(schema))
		switch {
		case says == "" && err != nil:
			t.Errorf("%s: %v", schema, err)
		case says != "" && (err == nil || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "\n")):
			t.Errorf("%s: %v, want %q in a line", schema, err, says)
		}
	}
}

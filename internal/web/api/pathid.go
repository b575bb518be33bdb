package api

import (
	"encoding/base64"
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"
)

// PathID is an id within a path: percent-encoded as anything in a path
// (course%2F41), or "~" and the base64url of the id (~Y291cnNlLzQx), which
// proxies that refuse %2F let through.
type PathID string

// Schema describes the parameter in the OpenAPI document.
func (PathID) Schema(huma.Registry) *huma.Schema {
	one := 1
	return &huma.Schema{Type: huma.TypeString, MinLength: &one,
		Description: "The platform's own id, percent-encoded (course%2F41), or ~ and its base64url without padding (~Y291cnNlLzQx)."}
}

// decodePathID gives the id a path segment (already percent-decoded) stands
// for.
func decodePathID(segment string) (string, *Problem) {
	id := segment
	if enc, ok := strings.CutPrefix(segment, "~"); ok {
		b, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(enc, "="))
		if err != nil {
			return "", newProblem(http.StatusBadRequest, "after ~ an id is written as base64url, as in ~Y291cnNlLzQx for course/41; an id that begins with ~ must be written so too")
		}
		id = string(b)
	}
	switch {
	case id == "":
		return "", newProblem(http.StatusNotFound, "an id in the path is empty")
	case !utf8.ValidString(id):
		return "", newProblem(http.StatusBadRequest, "an id in the path is not valid UTF-8")
	case strings.ContainsRune(id, 0):
		return "", newProblem(http.StatusBadRequest, "an id in the path contains the character NUL, which no id may have")
	}
	return id, nil
}

// encodePathID writes an id so that it survives any proxy; plain ids stay as
// they are.
func encodePathID(id string) string {
	plain := id != "" && id != "." && id != ".."
	for i := 0; i < len(id) && plain; i++ {
		c := id[i]
		plain = c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-' || c == '.'
	}
	if plain {
		return id
	}
	return "~" + base64.RawURLEncoding.EncodeToString([]byte(id))
}

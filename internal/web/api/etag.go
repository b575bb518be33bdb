package api

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"strconv"
	"strings"
)

// etag is the entity tag of a version as it is answered: warnings, and what is
// said in words, may change though nobody edits the thing.
func etag(version int64, v any) string {
	tag := strconv.FormatInt(version, 10)
	if body, err := json.Marshal(v); err == nil { // else it will not be answered
		sum := sha256.Sum256(body)
		tag += "-" + hex.EncodeToString(sum[:6])
	}
	return `"` + tag + `"`
}

// expect reads the conditions of a call that changes something.
func (m *Matching) expect() (Expect, error) {
	switch {
	case m.IfNoneMatch == "*":
		none := int64(0)
		return &none, nil
	case m.IfMatch == "" || m.IfMatch == "*":
		return nil, nil
	}
	tag := strings.TrimPrefix(strings.TrimSpace(m.IfMatch), "W/")
	number, _, _ := strings.Cut(strings.Trim(tag, `"`), "-") // an edit replaces what was stored, however it is answered
	version, err := strconv.ParseInt(number, 10, 64)
	if err != nil || version <= 0 || !strings.HasPrefix(tag, `"`) || !strings.HasSuffix(tag, `"`) {
		// A tag that was never given out matches nothing.
		return nil, newProblem(412, "If-Match is not an ETag of this thing: read it again and repeat the edit")
	}
	return &version, nil
}

// fresh reports whether the reader has what is answered already.
func (m *Matching) fresh(now string) bool {
	for tag := range strings.SplitSeq(m.IfNoneMatch, ",") {
		tag = strings.TrimPrefix(strings.TrimSpace(tag), "W/")
		if tag == now || tag == "*" {
			return true
		}
	}
	return false
}

package api

import (
	"strconv"
	"strings"
)

// etag is the entity tag of a version.
func etag(version int64) string { return `"` + strconv.FormatInt(version, 10) + `"` }

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
	version, err := strconv.ParseInt(strings.Trim(tag, `"`), 10, 64)
	if err != nil || version <= 0 || !strings.HasPrefix(tag, `"`) || !strings.HasSuffix(tag, `"`) {
		// A tag that was never given out matches nothing.
		return nil, newProblem(412, "If-Match is not an ETag of this thing: read it again and repeat the edit")
	}
	return &version, nil
}

// fresh reports whether the reader has this version already.
func (m *Matching) fresh(version int64) bool {
	for tag := range strings.SplitSeq(m.IfNoneMatch, ",") {
		tag = strings.TrimPrefix(strings.TrimSpace(tag), "W/")
		if tag == etag(version) || tag == "*" {
			return true
		}
	}
	return false
}

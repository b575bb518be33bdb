package api_test

import (
	"archive/zip"
	"bytes"
	"io"
	"strings"
	"testing"
)

// feature: NEW-15 the calls
func TestExportAndErase(t *testing.T) {
	h := newHouse(t)
	h.want(201, "PUT", "/v1/users/user%2F8", `{"name":"Ada","email":"ada@example.org","contacts":[{"kind":"webpush","address":"https://push.example/1","keys":{"auth":"geheim"}}]}`)
	h.want(202, "POST", "/v1/events", `{"source":"/x","type":"a.b","actor":"user/8"}`)
	const path = "/v1/users/user%2F8/export"
	a := h.want(200, "GET", path, "")
	if got := a.header.Get("Content-Type"); got != "application/jsonl" {
		t.Errorf("Content-Type %q", got)
	}
	lines := strings.Split(strings.TrimSpace(a.body), "\n")
	for _, want := range []string{`{"part":"user","value":{"id":"user/8","name":"Ada"`, `{"part":"settings"`, `{"part":"events"`, `{"part":"audit"`} {
		if !strings.Contains(a.body, want) {
			t.Errorf("%s is not in %s", want, a.body)
		}
	}
	if lines[len(lines)-1] != `{"part":"end","value":null}` || strings.Contains(a.body, "geheim") {
		t.Errorf("%s", a.body)
	}
	z := h.want(200, "GET", path+"?format=zip", "")
	r, err := zip.NewReader(bytes.NewReader([]byte(z.body)), int64(len(z.body)))
	if err != nil || len(r.File) != 1 {
		t.Fatalf("%v, %v", r, err)
	}
	f, err := r.File[0].Open()
	if err != nil {
		t.Fatal(err)
	}
	inside, err := io.ReadAll(f)
	if err != nil || !strings.Contains(string(inside), `"name":"Ada"`) {
		t.Errorf("%s, %v", inside, err)
	}
	h.want(403, "GET", path, "", "Authorization", "Bearer "+h.key("default", "read")).problem(t)
	h.want(422, "GET", path+"?format=xml", "").problem(t)
	h.want(403, "POST", "/v1/users/user%2F8/erase", "", "Authorization", "Bearer "+h.key("default", "read")).problem(t)
	j := h.want(202, "POST", "/v1/users/user%2F8/erase", "")
	if !strings.HasPrefix(j.header.Get("Location"), "/v1/jobs/job_") || !strings.Contains(j.body, `"kind":"users.erase"`) {
		t.Errorf("%v %s", j.header, j.body)
	}
}

package api_test

import (
	"archive/zip"
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/belfryhq/belfry/internal/web/api"
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

// stalled is a reader who takes the head of an answer and nothing more: what is
// written waits for the deadline that was set.
type stalled struct {
	*httptest.ResponseRecorder
	deadline time.Time
}

func (w *stalled) SetWriteDeadline(t time.Time) error { w.deadline = t; return nil }

func (w *stalled) Write([]byte) (int, error) {
	if w.deadline.IsZero() {
		return 0, io.ErrNoProgress // it would wait for ever
	}
	return 0, http.ErrHandlerTimeout
}

// Who stops reading an export is let go.
// feature: NEW-15
func TestExportToAStalledReader(t *testing.T) {
	h := newHouse(t)
	h.want(201, "PUT", "/v1/users/user%2F8", `{"name":"Ada"}`)
	r := httptest.NewRequestWithContext(t.Context(), "GET", "/v1/users/user%2F8/export", nil)
	r.Header.Set("Authorization", "Bearer "+rootKey)
	w := &stalled{ResponseRecorder: httptest.NewRecorder()}
	defer func() {
		if v := recover(); v != http.ErrAbortHandler {
			t.Errorf("the answer was not cut: %v", v)
		}
		if left := time.Until(w.deadline); left <= 0 || left > 10*time.Minute {
			t.Errorf("a reader who stopped is waited for %v", left)
		}
	}()
	h.server.ServeHTTP(w, r)
}

// panicking is a manager that panics in an export, after some of it.
type panicking struct {
	api.Manager
	after int
}

func (m panicking) Export(_ context.Context, _ api.By, _ string, put func(string, any) error) error {
	for range m.after {
		if err := put("user", nil); err != nil {
			return err
		}
	}
	panic("out of turn")
}

// feature: NEW-15
func TestPanicInAnExport(t *testing.T) {
	h := newHouse(t, func(o *api.Options) { o.Manage = panicking{Manager: o.Manage} })
	h.want(500, "GET", "/v1/users/user%2F8/export", "").problem(t)
	h = newHouse(t, func(o *api.Options) { o.Manage = panicking{o.Manage, 1} })
	r, err := http.NewRequestWithContext(t.Context(), "GET", h.url+"/v1/users/user%2F8/export", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+rootKey)
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return // cut before its head was sent
	}
	defer answer.Body.Close()
	if body, err := io.ReadAll(answer.Body); err == nil {
		t.Errorf("an answer that is not whole looks whole: %s", body)
	}
}

package doctest_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/belfryhq/belfry/internal/doctest"
)

const document = "# A page\n\n" +
	"```sh\nexport BELFRY=http://127.0.0.1:8420\n```\n\n" +
	"```sh\ncurl $BELFRY/things -H \"Authorization: Bearer $KEY\" \\\n  -d '{\"name\":\"a\"}'\n```\n" +
	"```json 201\n{\"id\": \"sub_…\", \"at\": \"…\", \"name\": \"a\"}\n```\n" +
	"and read it, which takes a moment:\n" +
	"```sh\ncurl $BELFRY/things/$SUB_ID\n```\n" +
	"```json\n{\"state\": \"done\", \"list\": [1, \"…\"], \"…\": \"…\"}\n```\n"

func TestRunsExamplesAsWritten(t *testing.T) {
	var reads, writes atomic.Int32
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == "POST" && r.Header.Get("Authorization") == "Bearer k":
			body, _ := io.ReadAll(r.Body)
			writes.Add(1)
			w.WriteHeader(201)
			fmt.Fprintf(w, `{"id":"sub_42","at":"now","name":%s}`, strings.TrimSuffix(strings.TrimPrefix(string(body), `{"name":`), "}"))
		case r.URL.Path == "/things/sub_42" && reads.Add(1) < 3:
			fmt.Fprint(w, `{"state":"working","list":[]}`)
		case r.URL.Path == "/things/sub_42":
			fmt.Fprint(w, `{"state":"done","list":[1,2,3],"more":true}`)
		default:
			w.WriteHeader(404)
		}
	}))
	defer srv.Close()
	file := filepath.Join(t.TempDir(), "page.md")
	if err := os.WriteFile(file, []byte(document), 0o600); err != nil {
		t.Fatal(err)
	}
	doctest.Run(t, file, srv.URL, "k", nil)
	if writes.Load() != 1 || reads.Load() != 3 {
		t.Errorf("%d writes and %d reads, want 1 and 3", writes.Load(), reads.Load())
	}
}

func TestParseRefusesWhatCannotBeChecked(t *testing.T) {
	for name, text := range map[string]string{
		"nothing":       "# A page\n",
		"no answer":     "```sh\ncurl a\n```\n",
		"answer late":   "```sh\ncurl a\n```\n```sh\ncurl b\n```\n```json\n{}\n```\n",
		"not JSON":      "```sh\ncurl a\n```\n```json\n{]\n```\n",
		"no status":     "```sh\ncurl a\n```\n```json ok\n{}\n```\n",
		"block is open": "```sh\ncurl a\n",
	} {
		if got, err := doctest.Parse(text); err == nil {
			t.Errorf("%s: parsed as %+v", name, got)
		}
	}
}

func TestCompare(t *testing.T) {
	for _, c := range []struct {
		want, got string
		same      bool
	}{
		{`{"a":1}`, `{"a":1}`, true},
		{`{"a":1}`, `{"a":1.0}`, false},
		{`{"a":1}`, `{"a":1,"b":2}`, false},
		{`{"a":1,"…":"…"}`, `{"a":1,"b":2}`, true},
		{`{"a":1,"…":"…"}`, `{"b":2}`, false},
		{`{"a":"…"}`, `{"a":{"b":[]}}`, true},
		{`{"a":"2026-…"}`, `{"a":"2026-05"}`, true},
		{`{"a":"2026-…"}`, `{"a":2026}`, false},
		{`[1,"…"]`, `[1]`, true},
		{`[1,"…"]`, `[]`, false},
		{`[1,"…"]`, `[1,{},3]`, true},
		{`[1]`, `[1,2]`, false},
		{`null`, `null`, true},
		{`{"a":null}`, `{"a":false}`, false},
		{`{"a":[]}`, `{"a":{}}`, false},
		{`{}`, `nope`, false},
	} {
		found := map[string]string{}
		if err := doctest.Compare(c.want, c.got, found); (err == nil) != c.same {
			t.Errorf("Compare(%s, %s) = %v", c.want, c.got, err)
		}
	}
	found := map[string]string{}
	if err := doctest.Compare(`{"ids":["evt_…"]}`, `{"ids":["evt_1"]}`, found); err != nil || found["EVT_ID"] != "evt_1" {
		t.Errorf("found %v, %v", found, err)
	}
}

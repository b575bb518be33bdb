// Package doctest runs the examples of documentation as they are written: each
// sh block of a Markdown file whose first word is curl, against a real server,
// and compares the answer with the json block that follows it.
//
// It promises that what a reader copies is what was run: commands go to a real
// shell and a real curl, with BELFRY (the server's address) and KEY (a key) in
// the environment, as the document tells its reader to set them. In an expected
// answer "…" stands for any value, text that ends in … for any text that begins
// so, and a member "…" for any further members; every other member must be there
// and equal. A text matched by a placeholder like "sub_…" is the variable SUB_ID
// of the commands after it. The number after json is the status, 200 when there
// is none.
//
// It refuses examples it cannot check: a curl block without an answer is an
// error, and so is a document without any. A command that only reads is repeated
// for a while until its answer fits, since the work behind a 202 goes on after it.
//
// Tests of it use an HTTP server of their own, and run docs/api.md against the
// real program.
package doctest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// patience is how long a reading command is repeated.
const patience = 30 * time.Second

// Example is a command and its answer.
type Example struct {
	Line    int // of the command in the document
	Command string
	Status  int
	Want    string // JSON; empty = no body
}

// Run runs the examples of the Markdown file, in order, against the server at
// base. Each is a subtest named by its line; after a failure the rest is left
// out, since examples build on each other. More are the variables that the
// document has besides BELFRY and KEY.
func Run(t *testing.T, file, base, key string, more map[string]string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	examples, err := Parse(string(text))
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	vars := map[string]string{"BELFRY": strings.TrimRight(base, "/"), "KEY": key}
	maps.Copy(vars, more)
	for _, e := range examples {
		ok := t.Run(fmt.Sprintf("line %d", e.Line), func(t *testing.T) {
			if err := e.run(t.Context(), vars); err != nil {
				t.Errorf("%s:%d: %v", file, e.Line, err)
			}
		})
		if !ok {
			return
		}
	}
}

// Parse finds the examples of a document.
func Parse(markdown string) ([]Example, error) {
	var examples []Example
	var pending *Example
	lines := strings.Split(markdown, "\n")
	for i := 0; i < len(lines); i++ {
		info, opens := strings.CutPrefix(lines[i], "```")
		if !opens {
			continue
		}
		begin := i + 1
		for i++; i < len(lines) && lines[i] != "```"; i++ {
		}
		if i == len(lines) {
			return nil, fmt.Errorf("line %d: the block has no end", begin)
		}
		body := strings.Join(lines[begin:i], "\n")
		language, rest, _ := strings.Cut(strings.TrimSpace(info), " ")
		switch {
		case language == "sh" && strings.HasPrefix(body, "curl "):
			if pending != nil {
				return nil, fmt.Errorf("line %d: the command has no answer", pending.Line)
			}
			pending = &Example{Line: begin + 1, Command: body, Status: 200}
		case language == "json" && pending != nil:
			if rest != "" {
				n, err := strconv.Atoi(strings.TrimSpace(rest))
				if err != nil {
					return nil, fmt.Errorf("line %d: %q is no status", begin, rest)
				}
				pending.Status = n
			}
			pending.Want = strings.TrimSpace(body)
			if pending.Want != "" && !json.Valid([]byte(pending.Want)) {
				return nil, fmt.Errorf("line %d: the answer is not JSON", begin+1)
			}
			examples = append(examples, *pending)
			pending = nil
		}
	}
	if pending != nil {
		return nil, fmt.Errorf("line %d: the command has no answer", pending.Line)
	}
	if len(examples) == 0 {
		return nil, fmt.Errorf("there is no example")
	}
	return examples, nil
}

// writes tells commands that change something, which are run once only.
var writes = regexp.MustCompile(`(^|\s)(-X|--request|-d|--data\S*|-T|--json|-F)\b`)

func (e *Example) run(ctx context.Context, vars map[string]string) error {
	deadline := time.Now().Add(patience)
	for {
		err := e.once(ctx, vars)
		if err == nil || writes.MatchString(e.Command) || time.Now().After(deadline) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond): // between reads of a real server, whose signals a shell cannot hear
		}
	}
}

func (e *Example) once(ctx context.Context, vars map[string]string) error {
	// The function adds what the comparison needs; the command stays as written.
	script := "curl() { command curl -sS --max-time 20 -w '\\n%{http_code}' \"$@\"; }\n" + e.Command
	cmd := exec.CommandContext(ctx, "bash", "-euc", script)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.TempDir(), "LC_ALL=C.UTF-8"}
	for _, name := range slices.Sorted(maps.Keys(vars)) {
		cmd.Env = append(cmd.Env, name+"="+vars[name])
	}
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%v: %s", err, bytes.TrimSpace(complaint.Bytes()))
	}
	body, code, ok := cutLast(out.String(), "\n")
	if !ok {
		return fmt.Errorf("the command printed %q", out.String())
	}
	body = strings.TrimSpace(body)
	if code != strconv.Itoa(e.Status) {
		return fmt.Errorf("status %s, the document says %d; the answer was\n%s", code, e.Status, body)
	}
	if e.Want == "" {
		if body != "" {
			return fmt.Errorf("the document says there is no body; it was\n%s", body)
		}
		return nil
	}
	found := map[string]string{}
	if err := Compare(e.Want, body, found); err != nil {
		return fmt.Errorf("%w\nthe answer was\n%s", err, body)
	}
	maps.Copy(vars, found)
	return nil
}

func cutLast(s, sep string) (before, after string, ok bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return "", s, false
	}
	return s[:i], s[i+len(sep):], true
}

// Compare is nil when got is the JSON that want describes. It adds the texts
// matched by placeholders like "sub_…" to found, under names like SUB_ID.
func Compare(want, got string, found map[string]string) error {
	w, err := decode(want)
	if err != nil {
		return fmt.Errorf("the expected answer: %w", err)
	}
	g, err := decode(got)
	if err != nil {
		return fmt.Errorf("the answer is not JSON: %w", err)
	}
	return compare(w, g, "", found)
}

func decode(text string) (any, error) {
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	var v any
	err := d.Decode(&v)
	return v, err
}

const ellipsis = "…"

// placeholder is an expected id: its kind names the variable.
var placeholder = regexp.MustCompile(`^([a-z]+)_…$`)

func compare(want, got any, at string, found map[string]string) error {
	if want == ellipsis {
		return nil
	}
	differ := func() error {
		w, _ := json.Marshal(want) // both came from JSON
		g, _ := json.Marshal(got)
		return fmt.Errorf("at %s: %s, the document says %s", orRoot(at), g, w)
	}
	switch w := want.(type) {
	case string:
		g, ok := got.(string)
		prefix, open := strings.CutSuffix(w, ellipsis)
		if !ok || !open && w != g || open && !strings.HasPrefix(g, prefix) {
			return differ()
		}
		if m := placeholder.FindStringSubmatch(w); m != nil {
			found[strings.ToUpper(m[1])+"_ID"] = g
		}
	case map[string]any:
		g, ok := got.(map[string]any)
		if !ok {
			return differ()
		}
		_, open := w[ellipsis]
		for _, name := range slices.Sorted(maps.Keys(w)) {
			if name == ellipsis {
				continue
			}
			value, ok := g[name]
			if !ok {
				return fmt.Errorf("at %s: the member %q is missing", orRoot(at), name)
			}
			if err := compare(w[name], value, at+"/"+name, found); err != nil {
				return err
			}
		}
		for _, name := range slices.Sorted(maps.Keys(g)) {
			if _, known := w[name]; !known && !open {
				return fmt.Errorf("at %s: the document does not know the member %q", orRoot(at), name)
			}
		}
	case []any:
		g, ok := got.([]any)
		if !ok {
			return differ()
		}
		// A last element "…" stands for any number of further ones.
		n := len(w)
		if n > 0 && w[n-1] == ellipsis {
			n--
			g = g[:min(n, len(g))]
		}
		if len(g) != n {
			return fmt.Errorf("at %s: %d elements, the document has %d", orRoot(at), len(g), n)
		}
		for i := range n {
			if err := compare(w[i], g[i], at+"/"+strconv.Itoa(i), found); err != nil {
				return err
			}
		}
	default:
		if want != got {
			return differ()
		}
	}
	return nil
}

func orRoot(at string) string {
	if at == "" {
		return "the top"
	}
	return at
}

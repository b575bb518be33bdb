package manage

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/mail"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/words"
)

// Bounds of fields, in bytes; those of ids and types are ingest's, since events
// must be able to name what is put here.
const (
	maxID         = 512
	maxType       = 255
	maxName       = 500
	maxURL        = 2048
	maxText       = 16 << 10
	maxAttributes = 64 << 10
	maxFaults     = 100
)

// faults gathers what is wrong with a document.
type faults struct{ list []belfry.Field }

func (f *faults) add(pointer, format string, args ...any) {
	if len(f.list) < maxFaults {
		f.list = append(f.list, belfry.Field{Pointer: pointer, Message: fmt.Sprintf(format, args...)})
	}
}

// within notes the faults of a part.
func (f *faults) within(pointer string, list []belfry.Field) {
	for _, fault := range list {
		f.add(pointer+fault.Pointer, "%s", fault.Message)
	}
}

func (f *faults) err() error { return belfry.Faults(f.list) }

// at is the pointer of the i-th thing: single things have none of their own.
func at(batch bool, i int) string {
	if batch {
		return "/" + strconv.Itoa(i)
	}
	return ""
}

// size refuses batches that are too big.
func (f *faults) size(n int) {
	if n > MaxBatch {
		f.add("", "has %d entries: at most %d are allowed, send several", n, MaxBatch)
	}
}

// key checks text that names something: not empty, of one line.
func (f *faults) key(pointer, s string, most int) bool {
	if s == "" {
		f.add(pointer, "is required")
		return false
	}
	return f.line(pointer, s, most)
}

// line checks text of one line that may be empty.
func (f *faults) line(pointer, s string, most int) bool {
	switch {
	case len(s) > most:
		f.add(pointer, "has %d bytes: at most %d are allowed", len(s), most)
	case !utf8.ValidString(s):
		f.add(pointer, "is not valid UTF-8")
	case strings.ContainsFunc(s, unicode.IsControl):
		f.add(pointer, "holds a control character: leave it out")
	default:
		return true
	}
	return false
}

// text checks text of several lines.
func (f *faults) text(pointer, s string, most int) {
	switch {
	case len(s) > most:
		f.add(pointer, "has %d bytes: at most %d are allowed", len(s), most)
	case !utf8.ValidString(s):
		f.add(pointer, "is not valid UTF-8")
	case strings.ContainsRune(s, 0):
		f.add(pointer, "holds a NUL character: leave it out")
	}
}

// object checks raw JSON that must be an object when it is given.
func (f *faults) object(pointer string, raw json.RawMessage) {
	trimmed := bytes.TrimSpace(raw)
	switch {
	case len(trimmed) == 0 || string(trimmed) == "null":
	case len(trimmed) > maxAttributes:
		f.add(pointer, "has %d bytes: at most %d are allowed", len(trimmed), maxAttributes)
	case trimmed[0] != '{' || !json.Valid(trimmed):
		f.add(pointer, "must be a JSON object")
	}
}

// orNothing is raw unless it is empty or null.
func orNothing(raw json.RawMessage) json.RawMessage {
	if t := bytes.TrimSpace(raw); len(t) == 0 || string(t) == "null" {
		return nil
	}
	return raw
}

// choice checks a word of a few.
func (f *faults) choice(pointer, s string, choices ...string) {
	if slices.Contains(choices, s) {
		return
	}
	if near := belfry.Nearest(s, choices); near != "" {
		f.add(pointer, "%q is not known: did you mean %q?", s, near)
		return
	}
	f.add(pointer, "%q is not known: it is one of %s", s, strings.Join(choices, ", "))
}

// url checks an address that people or programs follow.
func (f *faults) url(pointer, s string) *url.URL {
	if s == "" || !f.line(pointer, s, maxURL) {
		return nil
	}
	u, err := url.Parse(s)
	switch {
	case err != nil:
		f.add(pointer, "is not a URL")
	case u.Scheme != "http" && u.Scheme != "https":
		f.add(pointer, "must begin with https:// or http://")
	case u.Hostname() == "":
		f.add(pointer, "names no host")
	case u.User != nil:
		f.add(pointer, "must not hold a user name or password")
	default:
		if port := u.Port(); port != "" {
			if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
				f.add(pointer, "has no valid port")
				return nil
			}
		}
		return u
	}
	return nil
}

// email checks a bare mailbox address.
func (f *faults) email(pointer, s string) {
	if !f.line(pointer, s, 254) {
		return
	}
	a, err := mail.ParseAddress(s)
	if err != nil || a.Name != "" || a.Address != strings.TrimSpace(s) || !strings.Contains(a.Address, "@") {
		f.add(pointer, "is not an e-mail address such as ada@example.org")
	}
}

// locales are well-formed BCP 47 tags: language, then subtags.
var locales = regexp.MustCompile(`^[A-Za-z]{2,3}(?:-[A-Za-z0-9]{1,8})*$`)

// locale checks a language tag. Its language is one that there is, so that a
// name (german) or a slip is noticed; what follows need not be known.
func (f *faults) locale(pointer, s string) {
	switch {
	case s == "":
	case len(s) > 64 || !locales.MatchString(s):
		f.add(pointer, "is not a language tag such as pt-BR (BCP 47)")
	case !words.Language(s):
		language, _, _ := strings.Cut(s, "-")
		f.add(pointer, "there is no language %q: write a tag such as pt-BR (BCP 47)", language)
	}
}

// span checks a length of time, as people write it; such is an example.
func (f *faults) span(pointer, text string, least, most time.Duration, such string) {
	if d, ok := belfry.ParseSpan(text); !ok || d < least || d > most {
		f.add(pointer, "must be a length of time from %s to %s, such as %s", belfry.FormatSpan(least), belfry.FormatSpan(most), such)
	}
}

func (f *faults) zone(pointer, s string) {
	if s == "" {
		return
	}
	if _, err := time.LoadLocation(s); err != nil || s == "Local" {
		f.add(pointer, "is not a time zone such as America/Sao_Paulo (IANA)")
	}
}

// pattern checks an event type, exact or a prefix that ends in *.
func (f *faults) pattern(pointer, s string) {
	if !f.key(pointer, s, maxType) {
		return
	}
	switch prefix := strings.TrimSuffix(s, "*"); {
	case strings.Contains(prefix, "*"):
		f.add(pointer, "may have a * only at its end, as in core.course_*")
	case strings.ContainsFunc(s, unicode.IsSpace):
		f.add(pointer, "holds a space: a type is written as in core.course_updated")
	}
}

// names of things that appear in addresses and settings.
var names = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$`)

func (f *faults) name(pointer, s string) {
	if !names.MatchString(s) {
		f.add(pointer, "must be 1 to 100 letters, digits, dots, _ and -, and begin with a letter or digit")
	}
}

// duplicates reports ids that come twice in a batch.
func duplicates[T any](f *faults, batch bool, things []T, id func(*T) string) {
	seen := make(map[string]int, len(things))
	for i := range things {
		if first, ok := seen[id(&things[i])]; ok {
			f.add(at(batch, i)+"/id", "%q comes twice: it is also entry %d", id(&things[i]), first)
			continue
		}
		seen[id(&things[i])] = i
	}
}

// distinct are the different ones of ids, in order, without the empty one.
func distinct(ids []string) []string {
	seen := make(map[string]bool, len(ids))
	var out []string
	for _, id := range ids {
		if id != "" && !seen[id] {
			seen[id] = true
			out = append(out, id)
		}
	}
	return out
}

package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

// Out is where answers go, and in which form.
type Out struct {
	io.Writer
	JSON bool
}

// Value writes v as one line of JSON.
func (o Out) Value(v any) error {
	enc := json.NewEncoder(o.Writer)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// Line writes a line of words.
func (o Out) Line(format string, args ...any) error {
	_, err := fmt.Fprintf(o.Writer, format+"\n", args...)
	return err
}

// clean makes foreign text safe for a terminal: no escape sequences, one line.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return ' '
		}
		return r
	}, s)
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05Z") }

// reasons joins reasons into a clause.
func reasons(list []belfry.ReasonView) string {
	parts := make([]string, 0, len(list))
	for _, r := range list {
		parts = append(parts, clean(r.Text))
	}
	return strings.Join(slices.Compact(parts), "; ") // two subscriptions may name somebody in the same words
}

// subject is an event in a few words.
func subject(e *belfry.Event) string {
	s := clean(e.Type)
	if e.Object != "" {
		s += " at " + clean(e.Object)
	}
	if e.Actor != "" {
		s += " by " + clean(e.Actor)
	}
	return s
}

package belfry

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Kind classifies an error for whoever must answer it; the API maps each kind
// to one HTTP status.
type Kind int

// Kinds of error.
const (
	Internal     Kind = iota // a bug or a broken part: 500
	Invalid                  // well-formed but wrong: 422
	Malformed                // not even well-formed: 400
	NotFound                 // 404
	Conflict                 // 409
	Stale                    // If-Match failed: 412
	TooLarge                 // 413
	Unauthorised             // 401
	Forbidden                // 403
	Overloaded               // 429, with a time to wait
	Unavailable              // the database or a part is away: 503
	MediaType                // of a form that is not read here: 415
)

// Error is an error with a kind, words for people, and the places it speaks of.
type Error struct {
	Kind   Kind
	Msg    string // says what is wrong and what to do
	Fields []Field
	Cause  error
	// RetryAfter is how long to wait before trying again; 0 = not said. It
	// goes with Overloaded and Unavailable.
	RetryAfter time.Duration
}

// Field is one fault at one place of a document.
type Field struct {
	Pointer string `json:"pointer"` // RFC 6901
	Message string `json:"message"`
}

// Errorf makes an Error of a kind; %w keeps the cause.
func Errorf(kind Kind, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	return &Error{Kind: kind, Msg: err.Error(), Cause: errors.Unwrap(err)}
}

// Faults makes an Invalid error of the fields; nil when there are none.
func Faults(fields []Field) error {
	if len(fields) == 0 {
		return nil
	}
	msgs := make([]string, 0, len(fields))
	for _, f := range fields {
		msgs = append(msgs, strings.TrimPrefix(f.Pointer+": "+f.Message, ": ")) // no pointer: of the whole document
	}
	return &Error{Kind: Invalid, Msg: strings.Join(msgs, "; "), Fields: fields}
}

func (e *Error) Error() string { return e.Msg }

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Cause }

// KindOf is the kind of the first Error in err's chain, Internal without one.
func KindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return Internal
}

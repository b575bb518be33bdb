package channel

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxDetail is the most bytes an Outcome.Detail has.
const MaxDetail = 500

// Redacted stands where a secret was.
const Redacted = "[hidden]"

// Detail makes an Outcome.Detail of what a peer or an error said: one line,
// valid UTF-8, at most MaxDetail bytes, every one of secrets replaced. Secrets
// shorter than 4 bytes are left: hiding them would hide the text instead.
func Detail(text string, secrets ...string) string {
	// What cannot reach the result need not be looked at.
	longest := 0
	for _, s := range secrets {
		longest = max(longest, len(s))
	}
	limit := 8*MaxDetail + 2*longest
	cut := len(text) > limit
	if cut {
		text = text[:limit]
	}
	for _, s := range secrets {
		if len(s) >= 4 {
			text = strings.ReplaceAll(text, s, Redacted)
		}
	}
	if cut {
		text = text[:max(len(text)-longest, 0)] // may end in half a secret
	}
	if plain(text) {
		return text
	}
	var b strings.Builder
	space := false
	for _, r := range text {
		switch {
		case unicode.IsSpace(r), unicode.IsControl(r), r == utf8.RuneError:
			space = b.Len() > 0
			continue
		case !unicode.IsPrint(r):
			continue
		}
		n := utf8.RuneLen(r)
		if space {
			n++
		}
		if b.Len()+n > MaxDetail-len("…") {
			b.WriteString("…")
			break
		}
		if space {
			b.WriteByte(' ')
			space = false
		}
		b.WriteRune(r)
	}
	return b.String()
}

// plain reports whether text is a Detail as it is.
func plain(text string) bool {
	if len(text) > MaxDetail {
		return false
	}
	for i := 0; i < len(text); i++ {
		if c := text[i]; c < ' ' || c > '~' || c == ' ' && (i == 0 || i == len(text)-1 || text[i+1] == ' ') {
			return false
		}
	}
	return true
}

package belfry

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
	"strings"
)

// Subject is a person as what is stored may name her.
type Subject struct {
	ID        string   `json:"id"`                  // of the user, or a bare address
	Name      string   `json:"name,omitempty"`      // counts only where she is named otherwise, too
	Addresses []string `json:"addresses,omitempty"` // e-mail addresses normalised, others as they are
	// Tag stands for her where she was erased, Salt makes what stands for each
	// of her addresses; nobody can guess an address from it once Salt is gone.
	Tag  string `json:"tag,omitempty"`
	Salt string `json:"salt,omitempty"`
}

// ErasedPrefix begins what stands for a person who was erased.
const ErasedPrefix = "erased_"

// Holding is something that is stored about a person.
type Holding struct {
	Part  string          `json:"part"`
	Value json.RawMessage `json:"value"`
	// Row is the row as it was read, column by column; of the store.
	Row []string `json:"-"`
}

// telling reports whether the id can hardly stand for anything else, so that a
// text that holds it speaks of her. An id like 8 or ada may be anything.
func (s *Subject) telling() bool { return len(s.ID) >= 8 || strings.ContainsAny(s.ID, "/:@._-") }

// Is reports whether a whole text is her id or an address of hers.
func (s *Subject) Is(text string) bool {
	if text == "" {
		return false
	}
	return text == s.ID || s.owns(text)
}

func (s *Subject) owns(text string) bool {
	return slices.Contains(s.Addresses, text) || strings.Contains(text, "@") && slices.Contains(s.Addresses, NormaliseEmail(text))
}

// For is what stands for a text that Is her.
func (s *Subject) For(text string) string {
	if text == s.ID {
		return s.Tag
	}
	mac := hmac.New(sha256.New, []byte(s.Salt))
	_, _ = mac.Write([]byte(NormaliseEmail(text)))
	return s.Tag + "." + hex.EncodeToString(mac.Sum(nil)[:6])
}

// InText reports whether a text of people speaks of her.
func (s *Subject) InText(text string) bool { return s.Text(text) != text }

// Text is a text of people without her.
func (s *Subject) Text(text string) string {
	if s.Is(text) {
		return s.For(text)
	}
	for _, a := range s.Addresses {
		text = replaceWord(text, a, s.For(a), true)
	}
	if s.telling() {
		text = replaceWord(text, s.ID, s.Tag, false)
	}
	return text
}

// replaceWord replaces a word where nothing before or after it could belong to
// it.
func replaceWord(text, word, by string, fold bool) string {
	if word == "" || len(text) < len(word) {
		return text
	}
	var b strings.Builder
	at := 0
	for i := 0; i+len(word) <= len(text); {
		part := text[i : i+len(word)]
		if (part == word || fold && strings.EqualFold(part, word)) && (i == 0 || !inWord(text[i-1])) && (i+len(word) == len(text) || !continues(text[i+len(word):])) {
			b.WriteString(text[at:i])
			b.WriteString(by)
			i += len(word)
			at = i
			continue
		}
		i++
	}
	if at == 0 {
		return text
	}
	b.WriteString(text[at:])
	return b.String()
}

func inWord(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c >= 0x80 || strings.IndexByte("_-/@.+", c) >= 0
}

// continues reports whether what follows a word belongs to it; a full stop at
// the end of a sentence does not.
func continues(rest string) bool {
	if rest[0] == '.' || rest[0] == '-' || rest[0] == '/' {
		return len(rest) > 1 && inWord(rest[1])
	}
	return inWord(rest[0])
}

// InJSON reports whether a JSON value speaks of her.
func (s *Subject) InJSON(raw []byte) bool { return !bytes.Equal(s.JSON(raw), raw) }

// JSON is a JSON value whose strings do not speak of her any more; names of
// members, numbers and order stay. Her name goes where she is named otherwise.
func (s *Subject) JSON(raw []byte) []byte {
	if !s.mayHold(raw) {
		return raw
	}
	out, changed := s.strings(raw, false)
	if !changed {
		return raw
	}
	if s.Name != "" {
		out, _ = s.strings(out, true)
	}
	return out
}

// Event is an event's body without her. An id that may stand for anything
// counts as hers only where the event names her as actor or as related.
func (s *Subject) Event(body []byte) []byte {
	if s.telling() || !s.mayHold(body) {
		return s.JSON(body)
	}
	var named struct {
		Actor   string   `json:"actor"`
		Related []string `json:"related"`
	}
	if json.Unmarshal(body, &named) == nil && (named.Actor == s.ID || slices.Contains(named.Related, s.ID)) {
		return s.JSON(body)
	}
	others := *s
	others.ID = "" // only her addresses are left
	return others.JSON(body)
}

// mayHold spares nearly all values a closer look.
func (s *Subject) mayHold(raw []byte) bool {
	if s.ID != "" {
		quoted, err := json.Marshal(s.ID)
		if err != nil || bytes.Contains(raw, quoted[1:len(quoted)-1]) || bytes.Contains(raw, []byte(s.ID)) || bytes.IndexByte(raw, '\\') >= 0 {
			return true
		}
	}
	if len(s.Addresses) == 0 {
		return false
	}
	low := bytes.ToLower(raw)
	for _, a := range s.Addresses {
		if bytes.Contains(low, []byte(strings.ToLower(a))) {
			return true
		}
	}
	return bytes.IndexByte(raw, '\\') >= 0
}

// strings rewrites the strings of a JSON value that are no names of members.
func (s *Subject) strings(raw []byte, names bool) (out []byte, changed bool) {
	for i := 0; i < len(raw); {
		if raw[i] != '"' {
			out = append(out, raw[i])
			i++
			continue
		}
		end := i + 1
		for end < len(raw) && raw[end] != '"' {
			if raw[end] == '\\' {
				end++
			}
			end++
		}
		end = min(end+1, len(raw))
		token := raw[i:end]
		i = end
		after := bytes.TrimLeft(raw[end:], " \t\r\n")
		var text string
		if len(after) > 0 && after[0] == ':' || json.Unmarshal(token, &text) != nil {
			out = append(out, token...)
			continue
		}
		now := text
		if names {
			if text == s.Name {
				now = s.Tag
			}
		} else {
			now = s.Text(text)
		}
		if now == text {
			out = append(out, token...)
			continue
		}
		quoted, err := json.Marshal(now)
		if err != nil {
			return raw, false // cannot happen for a string
		}
		out, changed = append(out, quoted...), true
	}
	return out, changed
}

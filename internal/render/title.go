package render

import (
	"strings"
	"unicode"
)

// TypeTitle makes a human title of an event type's name, for types that nobody
// gave one: core.course_updated is "Course updated", mod_forum.post_created is
// "Forum post created", com.example.order.shipped is "Order shipped".
func TypeTitle(name string) string {
	segments := strings.FieldsFunc(name, func(r rune) bool { return strings.ContainsRune(`./:\`, r) })
	if len(segments) == 0 {
		return "Event"
	}
	last := segments[len(segments)-1]
	before := ""
	if len(segments) > 1 {
		before = segments[len(segments)-2]
	}
	title := last
	if module, ok := strings.CutPrefix(before, "mod_"); ok && !strings.HasPrefix(last, module) {
		title = module + "_" + last
	} else if len(wordsOf(last)) == 1 && before != "" {
		title = before + "_" + last
	}
	if p := phrase(title); p != "" {
		return p
	}
	return "Event"
}

// phrase is an identifier as words: quizAttempt_started is "Quiz attempt
// started".
func phrase(name string) string {
	p := []rune(strings.Join(wordsOf(name), " "))
	if len(p) > 0 {
		p[0] = unicode.ToUpper(p[0])
	}
	return string(p)
}

// wordsOf splits an identifier at everything but letters and digits, and before
// an upper-case letter that follows a lower-case one.
func wordsOf(name string) []string {
	var out []string
	var word strings.Builder
	flush := func() {
		if word.Len() > 0 {
			out = append(out, word.String())
			word.Reset()
		}
	}
	lower := false
	for _, r := range oneLine(name) {
		if !unicode.IsLetter(r) && !unicode.IsDigit(r) && !unicode.IsMark(r) {
			flush()
			lower = false
			continue
		}
		if unicode.IsUpper(r) && lower {
			flush()
			lower = false
			word.WriteRune(unicode.ToLower(r))
			continue
		}
		lower = unicode.IsLower(r)
		word.WriteRune(r)
	}
	flush()
	return out
}

package render

import (
	"strconv"
	"strings"

	"golang.org/x/net/html"
)

// toText is a sanitised HTML fragment as plain text: paragraphs apart, items
// with a dash or a number, quotations with >, and the target of a link behind
// its words. It reads tokens, not a tree, so depth costs nothing.
func toText(fragment string) string {
	w := textWriter{}
	z := html.NewTokenizer(strings.NewReader(fragment))
	for {
		switch z.Next() {
		case html.ErrorToken:
			return w.String()
		case html.TextToken:
			w.text(string(z.Text()))
		case html.StartTagToken, html.SelfClosingTagToken:
			tok := z.Token()
			w.open(tok.Data, tok.Attr)
		case html.EndTagToken:
			tok := z.Token()
			w.close(tok.Data)
		}
	}
}

// textWriter lays lines out. gap is how many line breaks are due before the
// next word.
type textWriter struct {
	out    strings.Builder
	line   strings.Builder
	gap    int
	quotes int
	pre    bool
	lists  []int    // open lists: next number, or -1 for dashes
	links  []link   // open links
	cells  int      // cells so far in the open table row
	bullet string   // of the item that begins at the next word
	indent []string // of open items
}

type link struct {
	href  string
	words strings.Builder
}

func (w *textWriter) text(s string) {
	if w.pre {
		for i, part := range strings.Split(s, "\n") {
			if i > 0 {
				w.brk(1)
			}
			if part != "" {
				w.word(part)
			}
		}
		return
	}
	words := strings.Fields(s)
	if len(words) == 0 {
		if s != "" && w.line.Len() > 0 && w.gap == 0 {
			w.space()
		}
		return
	}
	if s[0] == ' ' || s[0] == '\n' {
		w.space()
	}
	w.word(strings.Join(words, " "))
	if last := s[len(s)-1]; last == ' ' || last == '\n' {
		w.space()
	}
}

func (w *textWriter) space() {
	if l := w.line.String(); w.gap == 0 && l != "" && !strings.HasSuffix(l, " ") {
		w.line.WriteByte(' ')
	}
}

func (w *textWriter) word(s string) {
	w.flush()
	if w.line.Len() == 0 {
		w.line.WriteString(strings.Repeat("> ", w.quotes))
		for i, in := range w.indent {
			if i == len(w.indent)-1 && w.bullet != "" {
				in = w.bullet
				w.bullet = ""
			}
			w.line.WriteString(in)
		}
	}
	w.line.WriteString(s)
	if n := len(w.links); n > 0 {
		w.links[n-1].words.WriteString(s)
	}
}

// brk asks for n line breaks before the next word.
func (w *textWriter) brk(n int) { w.gap = max(w.gap, n) }

func (w *textWriter) flush() {
	if w.gap == 0 {
		return
	}
	if w.line.Len() > 0 {
		w.out.WriteString(strings.TrimRight(w.line.String(), " "))
		w.line.Reset()
		w.out.WriteByte('\n')
		if w.gap > 1 {
			w.out.WriteString(strings.TrimRight(strings.Repeat("> ", w.quotes), " "))
			w.out.WriteByte('\n')
		}
	}
	w.gap = 0
}

func (w *textWriter) block() {
	if len(w.indent) > 0 {
		w.brk(1)
		return
	}
	w.brk(2)
}

func (w *textWriter) open(name string, attrs []html.Attribute) {
	switch name {
	case "br":
		w.brk(min(w.gap+1, 2))
	case "hr":
		w.block()
		w.word("----")
		w.block()
	case "p", "h1", "h2", "h3", "h4", "h5", "h6", "table":
		w.block()
	case "pre":
		w.block()
		w.pre = true
	case "blockquote":
		w.brk(2)
		w.flush()
		w.quotes++
	case "ul", "ol":
		w.block()
		next := -1
		if name == "ol" {
			next = 1
			for _, a := range attrs {
				if n, err := strconv.Atoi(a.Val); a.Key == "start" && err == nil {
					next = n
				}
			}
		}
		w.lists = append(w.lists, next)
	case "li":
		w.brk(1)
		w.bullet = "- "
		if n := len(w.lists); n > 0 && w.lists[n-1] >= 0 {
			w.bullet = strconv.Itoa(w.lists[n-1]) + ". "
			w.lists[n-1]++
		}
		w.indent = append(w.indent, strings.Repeat(" ", len(w.bullet)))
	case "tr":
		w.brk(1)
		w.cells = 0
	case "td", "th":
		if w.cells++; w.cells > 1 {
			line := strings.TrimRight(w.line.String(), " ")
			w.line.Reset()
			w.word(line + " | ")
		}
	case "a":
		l := link{}
		for _, a := range attrs {
			if a.Key == "href" {
				l.href = a.Val
			}
		}
		w.links = append(w.links, l)
	}
}

func (w *textWriter) close(name string) {
	switch name {
	case "p", "h1", "h2", "h3", "h4", "h5", "h6", "table":
		w.block()
	case "pre":
		w.pre = false
		w.block()
	case "blockquote":
		w.brk(2)
		w.quotes = max(0, w.quotes-1)
	case "ul", "ol":
		if n := len(w.lists); n > 0 {
			w.lists = w.lists[:n-1]
		}
		w.block()
	case "li":
		w.brk(1)
		if n := len(w.indent); n > 0 {
			w.indent = w.indent[:n-1]
		}
	case "a":
		n := len(w.links)
		if n == 0 {
			return
		}
		l := &w.links[n-1]
		words := l.words.String()
		w.links = w.links[:n-1]
		if target := strings.TrimPrefix(l.href, "mailto:"); target != "" && target != words {
			w.line.WriteString(" (" + target + ")")
		}
	}
}

// String is the text, without blank lines at its ends.
func (w *textWriter) String() string {
	w.brk(1)
	w.flush()
	return strings.Trim(w.out.String(), "\n")
}

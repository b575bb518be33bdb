package render

import (
	"bytes"
	"html"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/microcosm-cc/bluemonday"
	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/extension"
	gmhtml "github.com/yuin/goldmark/renderer/html"
)

// converter keeps raw HTML and dangerous links out (goldmark's default) and
// does not link bare addresses.
var converter = goldmark.New(
	goldmark.WithExtensions(
		extension.NewTable(extension.WithTableCellAlignMethod(extension.TableCellAlignAttribute)),
		extension.Strikethrough,
	),
	goldmark.WithRendererOptions(gmhtml.WithXHTML()),
)

// policy is what a message may hold. No images: a mail or an inbox that loads
// them tells their server who reads it.
var policy = func() *bluemonday.Policy {
	p := bluemonday.NewPolicy()
	p.AllowElements("p", "br", "hr", "strong", "em", "del", "code", "pre", "blockquote", "ul", "li",
		"h1", "h2", "h3", "h4", "h5", "h6", "table", "thead", "tbody", "tr")
	p.AllowAttrs("start").Matching(regexp.MustCompile(`^\d{1,9}$`)).OnElements("ol")
	p.AllowElements("ol", "th", "td")
	p.AllowAttrs("align").Matching(regexp.MustCompile(`^(left|right|center)$`)).OnElements("th", "td")
	p.AllowAttrs("href").OnElements("a")
	p.AllowURLSchemes("http", "https", "mailto")
	p.RequireParseableURLs(true)
	p.RequireNoFollowOnLinks(true)
	p.RequireNoReferrerOnLinks(true)
	return p
}()

// A placeholder stands for the n-th value while Markdown is read: letters and
// digits only, so that no construct begins, ends or changes at it. A template
// that spells one out gets a value it could have named.
const (
	placeholderBegin = "zqv0"
	placeholderEnd   = "vqz"
)

func placeholderAt(n int) string { return placeholderBegin + strconv.Itoa(n) + placeholderEnd }

var placeholder = regexp.MustCompile(placeholderBegin + `(\d{1,6})` + placeholderEnd)

// nested are the markers of more than 16 quotations and lists, one in the
// other, at the beginning of a line: reading such costs the square of their
// number and says nothing more.
var nested = regexp.MustCompile(`(?m)^((?:[ \t]*(?:>|[-+*][ \t]|\d{1,9}[.)][ \t])){16})(?:[ \t]*(?:>|[-+*][ \t]|\d{1,9}[.)][ \t]))+`)

// maxEmphasis is how many * _ and ~ of one paragraph are read as emphasis: each
// is looked for among all before it.
const maxEmphasis = 2000

// listed is a line that begins an item of a list, also within a paragraph.
var listed = regexp.MustCompile(`^ {0,3}[-+*] +\S`)

// tamed is source with what is too much of emphasis as the characters it is
// written with.
func tamed(source string) string {
	if len(source) <= maxEmphasis {
		return source
	}
	var out strings.Builder
	seen := 0
	for line := range strings.SplitAfterSeq(source, "\n") {
		if strings.TrimSpace(line) == "" || listed.MatchString(line) {
			seen = 0
		}
		done := 0
		for i := range len(line) {
			if c := line[i]; c != '*' && c != '_' && c != '~' {
				continue
			}
			if seen++; seen > maxEmphasis && (i == 0 || line[i-1] != '\\') {
				out.WriteString(line[done:i])
				out.WriteByte('\\')
				done = i
			}
		}
		out.WriteString(line[done:])
	}
	return out.String()
}

// fragment renders the body of a template to sanitised HTML, and to its plain
// twin.
func (t *Template) fragment(values *values) (page, text string) {
	var taken []string
	room := maxValues
	source := run(t.body, values, maxMarkdown, func(s string) (string, bool) {
		more := len(s) < room
		if !more {
			s = strings.ToValidUTF8(s[:room], "")
		}
		room -= len(s)
		taken = append(taken, clean(s))
		return placeholderAt(len(taken) - 1), more
	})
	f := t.body.html(source)
	return f.filled(taken)
}

// filling is what Markdown with placeholders came out as. When all of them stand
// in text it is sanitised once, before they are filled: what fills them is escaped
// and text. Where one stands in a tag, it is sanitised when it is known what it
// says. even says that the plain twin was made once, too: it holds for values that
// are not uneven.
type filling struct {
	html, text      holed
	sanitised, even bool
}

// read reads Markdown with placeholders.
func read(source string) filling {
	page := toHTML(source)
	for _, m := range placeholder.FindAllStringIndex(page, -1) {
		if inTag(page, m[0]) {
			return filling{html: cutAtHoles(page, true)}
		}
	}
	page = policy.Sanitize(page)
	f := filling{html: cutAtHoles(page, true), sanitised: true}
	// The target of a link is told behind its words unless they are the same.
	if f.even = !strings.Contains(page, "<a"); f.even {
		f.text = cutAtHoles(toText(strings.TrimSpace(page)), false)
	}
	return f
}

// filled is the sanitised HTML with the values in it, and its plain twin.
func (f *filling) filled(taken []string) (page, text string) {
	page = f.fill(taken)
	if !f.sanitised {
		page = policy.Sanitize(page)
	}
	page = strings.TrimSpace(page)
	if f.even && !slices.ContainsFunc(taken, uneven) {
		return page, f.text.fill(taken, func(_ place, s string) string { return s })
	}
	return page, toText(page)
}

// fill puts the values in the places of their placeholders, each escaped for
// where it stands: text, the start of a link, within a link.
func (f *filling) fill(taken []string) string {
	lineBreak := "<br />\n"
	if f.sanitised {
		lineBreak = "<br/>\n" // as the policy writes it
	}
	return f.html.fill(taken, func(in place, s string) string {
		switch in {
		case inText:
			return strings.ReplaceAll(html.EscapeString(s), "\n", lineBreak)
		case inAddress:
			return html.EscapeString(webURL(s))
		default:
			return html.EscapeString(url.QueryEscape(s))
		}
	})
}

// uneven reports whether plain text would be laid out anew around a value, or the
// value in it: it is empty or has white space that is more than one blank between
// words.
func uneven(s string) bool {
	blank := true // before the first word
	for _, r := range s {
		if unicode.IsSpace(r) && (blank || r != ' ') {
			return true
		}
		blank = r == ' '
	}
	return blank
}

// holed is text cut at its placeholders.
type holed struct {
	holes []hole
	end   string // behind the last
}

// hole is a placeholder with what stands before it.
type hole struct {
	before, itself string
	value          int
	in             place
}

// place is where in HTML something stands.
type place int

const (
	inText    place = iota
	inAddress       // at the start of a link's target
	inTagged        // elsewhere in a tag
)

// cutAtHoles cuts HTML, or plain text, which has no tags to stand in.
func cutAtHoles(page string, markup bool) (h holed) {
	end := 0
	for _, m := range placeholder.FindAllStringSubmatchIndex(page, -1) {
		n, _ := strconv.Atoi(page[m[2]:m[3]]) // six digits at the most
		at := hole{before: page[end:m[0]], itself: page[m[0]:m[1]], value: n}
		switch {
		case !markup || !inTag(page, m[0]):
		case strings.HasSuffix(page[:m[0]], `href="`):
			at.in = inAddress
		default:
			at.in = inTagged
		}
		h.holes = append(h.holes, at)
		end = m[1]
	}
	h.end = page[end:]
	return h
}

// fill writes the values, as escape has them. A placeholder that no value was
// taken for was spelt out by the template.
func (h *holed) fill(taken []string, escape func(in place, s string) string) string {
	var out strings.Builder
	for i := range h.holes {
		at := &h.holes[i]
		out.WriteString(at.before)
		if at.value < len(taken) {
			out.WriteString(escape(at.in, taken[at.value]))
		} else {
			out.WriteString(at.itself)
		}
	}
	out.WriteString(h.end)
	return out.String()
}

// inTag reports whether a place is inside a tag: goldmark escapes < and > in
// text and attributes, so the nearest one tells.
func inTag(page string, at int) bool {
	tag := strings.LastIndexAny(page[:at], "<>")
	return tag >= 0 && page[tag] == '<'
}

// toHTML reads Markdown.
func toHTML(source string) string {
	var out bytes.Buffer
	source = tamed(nested.ReplaceAllString(source, "$1"))
	if err := converter.Convert([]byte(source), &out); err != nil {
		// A bytes.Buffer does not fail and goldmark has no other error; should
		// it ever get one, plain words are better than no message.
		return "<p>" + html.EscapeString(source) + "</p>"
	}
	return out.String()
}

// webURL is s when it is an absolute http or https address with a host, else
// empty. Nothing else may become a link.
func webURL(s string) string {
	s = strings.TrimSpace(s)
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return ""
	}
	return u.String()
}

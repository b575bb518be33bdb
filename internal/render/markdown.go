package render

import (
	"bytes"
	"html"
	"net/url"
	"regexp"
	"strconv"
	"strings"

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

var placeholder = regexp.MustCompile(placeholderBegin + `(\d{1,6})` + placeholderEnd)

// nested are the markers of more than 16 quotations and lists, one in the
// other, at the beginning of a line: reading such costs the square of their
// number and says nothing more.
var nested = regexp.MustCompile(`(?m)^((?:[ \t]*(?:>|[-+*][ \t]|\d{1,9}[.)][ \t])){16})(?:[ \t]*(?:>|[-+*][ \t]|\d{1,9}[.)][ \t]))+`)

// fragment renders the body of a template to sanitised HTML.
func (t *Template) fragment(values object) string {
	var taken []string
	room := maxValues
	source := run(t.body, values, maxMarkdown, func(s string) (string, bool) {
		more := len(s) < room
		if !more {
			s = strings.ToValidUTF8(s[:room], "")
		}
		room -= len(s)
		taken = append(taken, clean(s))
		return placeholderBegin + strconv.Itoa(len(taken)-1) + placeholderEnd, more
	})
	page := t.body.html(source)
	html := fill(page, taken)
	if !page.sanitised {
		html = policy.Sanitize(html)
	}
	return strings.TrimSpace(html)
}

// filling is HTML with placeholders. When all of them stand in text it is
// sanitised once, before they are filled: what fills them is escaped and text.
// Where one stands in a tag, it is sanitised when it is known what it says.
type filling struct {
	html      string
	sanitised bool
}

// read reads Markdown with placeholders.
func read(source string) filling {
	page := toHTML(source)
	for _, m := range placeholder.FindAllStringIndex(page, -1) {
		if inTag(page, m[0]) {
			return filling{html: page}
		}
	}
	return filling{policy.Sanitize(page), true}
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
	source = nested.ReplaceAllString(source, "$1")
	if err := converter.Convert([]byte(source), &out); err != nil {
		// A bytes.Buffer does not fail and goldmark has no other error; should
		// it ever get one, plain words are better than no message.
		return "<p>" + html.EscapeString(source) + "</p>"
	}
	return out.String()
}

// fill puts the values in the places of their placeholders, each escaped for
// where it stands: text, the start of a link, within a link.
func fill(f filling, taken []string) string {
	page := f.html
	if len(taken) == 0 {
		return page
	}
	lineBreak := "<br />\n"
	if f.sanitised {
		lineBreak = "<br/>\n" // as the policy writes it
	}
	var out strings.Builder
	end := 0
	for _, m := range placeholder.FindAllStringSubmatchIndex(page, -1) {
		n, err := strconv.Atoi(page[m[2]:m[3]])
		if err != nil || n >= len(taken) {
			continue
		}
		out.WriteString(page[end:m[0]])
		end = m[1]
		switch {
		case !inTag(page, m[0]):
			out.WriteString(strings.ReplaceAll(html.EscapeString(taken[n]), "\n", lineBreak))
		case strings.HasSuffix(page[:m[0]], `href="`):
			out.WriteString(html.EscapeString(webURL(taken[n])))
		default:
			out.WriteString(html.EscapeString(url.QueryEscape(taken[n])))
		}
	}
	out.WriteString(page[end:])
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

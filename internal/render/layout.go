package render

import (
	_ "embed"
	"html/template"
	"strings"
	"sync"

	"github.com/belfryhq/belfry/internal/words"
)

// page is what the mail layout shows.
type page struct {
	Lang, Title          string
	Body                 template.HTML
	URL, URLText         string
	Reason, Subscription string
	Links                Links
	say                  *words.Printer
}

// Say is a text of the layout.
func (p page) Say(id string, pairs ...string) string { return p.say.Say(id, pairs...) }

//go:embed mail.html
var layoutSource string

var (
	layout     = template.Must(template.New("mail").Parse(layoutSource))
	targetOnly = template.Must(template.New("target").Parse(`<a href="{{.}}">`))
)

// frameKey is what the layout depends on but for the values it shows: which of
// them there are, and the language of its own texts.
type frameKey struct {
	say   *words.Printer
	there [8]bool
}

// frames are layouts around placeholders, as html/template made them once.
var frames struct {
	sync.Mutex
	all map[frameKey]*holed
}

const (
	maxFrames = 512
	always    = 3 // values that every page shows
)

// shown are the values a page may show beside its language, title and body.
func (p *page) shown() (values [8]*string) {
	return [8]*string{&p.URL, &p.URLText, &p.Reason, &p.Subscription, &p.Links.Why, &p.Links.Acknowledge, &p.Links.Unsubscribe, &p.Links.Manage}
}

// html is the mail of a page: as layout makes it, which is slow.
func (p *page) html() string {
	key := frameKey{say: p.say}
	values := p.shown()
	for i, v := range values {
		key.there[i] = *v != ""
	}
	frames.Lock()
	frame := frames.all[key]
	frames.Unlock()
	if frame == nil {
		if frame = p.frame(); frame == nil {
			return "" // the message still has its text
		}
		frames.Lock()
		if frames.all == nil || len(frames.all) >= maxFrames {
			frames.all = map[frameKey]*holed{}
		}
		frames.all[key] = frame
		frames.Unlock()
	}
	taken := [always + len(values)]string{escaped.Replace(p.Lang), escaped.Replace(p.Title), string(p.Body)}
	for i, v := range values {
		switch v {
		case &p.URLText, &p.Reason, &p.Subscription:
			taken[always+i] = escaped.Replace(*v)
		default:
			taken[always+i] = linked(*v)
		}
	}
	return frame.fill(taken[:], func(_ place, s string) string { return s })
}

// frame is the layout around placeholders of all that p shows.
func (p *page) frame() *holed {
	around := page{Lang: placeholderAt(0), Title: placeholderAt(1), Body: template.HTML(placeholderAt(2)), say: p.say}
	values := p.shown()
	for i, v := range around.shown() {
		if *values[i] != "" {
			*v = placeholderAt(always + i)
		}
	}
	var out strings.Builder
	if err := layout.Execute(&out, around); err != nil {
		return nil // the layout is ours and its fields are strings: only a bug gets here
	}
	h := cutAtHoles(out.String(), true)
	return &h
}

// escaped is text as html/template escapes it, in an element as in an attribute.
var escaped = strings.NewReplacer("\x00", "\uFFFD", `"`, "&#34;", "&", "&amp;", "'", "&#39;", "+", "&#43;", "<", "&lt;", ">", "&gt;")

// linked is the target of a link as html/template escapes it.
func linked(s string) string {
	if s == "" || plainURL(s) {
		return escaped.Replace(s)
	}
	var out strings.Builder
	if targetOnly.Execute(&out, s) != nil { // a string in a constant template
		return ""
	}
	text := out.String()
	return text[len(`<a href="`) : len(text)-len(`">`)]
}

// plainURL reports whether s is a web address of nothing but characters that are
// left as they are in it.
func plainURL(s string) bool {
	if !strings.HasPrefix(s, "https://") && !strings.HasPrefix(s, "http://") {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case strings.IndexByte("-._~/:?#=&+,;@", c) >= 0:
		case c == '%' && i+2 < len(s) && isHex(s[i+1]) && isHex(s[i+2]):
		default:
			return false
		}
	}
	return true
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

// text is the plain twin of the layout around a body.
func (p *page) text(body string) string {
	var b strings.Builder
	b.Grow(len(body) + 512)
	b.WriteString(body)
	b.WriteByte('\n')
	if p.URL != "" && !strings.Contains(body, p.URL) {
		b.WriteString("\n" + p.URL + "\n")
	}
	if p.Links.Acknowledge != "" {
		b.WriteString("\n" + p.Say("mail.acknowledge") + ": " + p.Links.Acknowledge + "\n")
	}
	b.WriteString("\n-- \n") // the signature mark that mail programs fold away
	if p.Reason != "" {
		b.WriteString(p.Say("mail.because", "Reason", p.Reason) + "\n")
	}
	if p.Subscription != "" {
		b.WriteString(p.Say("mail.subscription", "Title", p.Subscription) + "\n")
	}
	for _, l := range []struct{ id, url string }{
		{"mail.why", p.Links.Why}, {"mail.stop", p.Links.Unsubscribe}, {"mail.manage", p.Links.Manage},
	} {
		if l.url != "" {
			b.WriteString(p.Say(l.id) + ": " + l.url + "\n")
		}
	}
	return b.String()
}

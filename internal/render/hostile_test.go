package render_test

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode"

	"golang.org/x/net/html"
	"pgregory.net/rapid"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/render"
)

// hostile draws strings that try to be markup.
func hostile() *rapid.Generator[string] {
	pieces := []string{
		"<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "](javascript:alert(1))", "[x](http://evil.example)",
		"`", "```\n", "\n\n# h\n", "\n---\n", "* ", "**", "_", "|", "\n> ", "&lt;", "&#60;script&#62;", "\"", "'", "\\", "{{object.id}}",
		"{{#a}}", "}}", "<!--", "]]>", "\r\n", "\x00", "\u202e", "\u2028", "zqv00vqz", "zqv01vqz", "http://evil.example", "javascript:alert(1)", " ", "a",
		"<https://evil.example>", "![p](http://evil.example/p.gif)", "[r]: http://evil.example\n", "\t", "    code", "1. ",
	}
	return rapid.Custom(func(t *rapid.T) string {
		return strings.Join(rapid.SliceOfN(rapid.OneOf(rapid.SampledFrom(pieces), rapid.String()), 0, 8).Draw(t, "pieces"), "")
	})
}

const hostileBody = "# {{event.data.v}}\n\nT {{event.data.v}} *{{object.title}}* `{{event.data.v}}` ~~{{recipient.name}}~~\n\n" +
	"- {{event.data.v}}\n\n> {{event.comment}}\n\n| {{event.data.v}} |\n|---|\n| {{actor.name}} |\n\n```\n{{event.data.v}}\n```\n\n    {{event.data.v}}\n\n" +
	"{{#event.data.list}}{{.}} {{/event.data.list}}{{event.data}}{{path}}" +
	"\n\n{{#as.date}}{{event.data.v}}{{/as.date}} *{{#as.number}}{{object.title}}{{/as.number}}*"

// elements lists the tags and attributes of a page, without its words.
func elements(t *rapid.T, page string) string {
	var b strings.Builder
	z := html.NewTokenizer(strings.NewReader(page))
	for {
		switch z.Next() {
		case html.ErrorToken:
			return b.String()
		case html.StartTagToken, html.SelfClosingTagToken, html.EndTagToken:
			tok := z.Token()
			if tok.Data == "br" { // line breaks of a value are shown
				continue
			}
			tok.Type = html.StartTagToken
			b.WriteString(tok.String())
		case html.CommentToken:
			t.Fatalf("comment in %s", page)
		}
	}
}

// Whatever the data holds, the message has the elements that the template's
// author wrote and no others.
func TestValuesAreNeverMarkup(t *testing.T) {
	tmpl, err := render.Compile("{{event.data.v}} {{object.title}}", hostileBody)
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		make := func(s func(string) string) render.Item {
			raw, err := json.Marshal(map[string]any{"v": s("v"), "list": []string{s("l1"), s("l2")}})
			if err != nil {
				t.Fatal(err)
			}
			it := item(string(raw))
			it.Event.Comment = s("comment")
			it.Object.Title, it.ActorName, it.RecipientName, it.TypeTitle = s("title"), s("actor"), s("recipient"), s("type")
			it.Path = []belfry.Object{{ID: "x", Title: s("path")}}
			it.Because = []belfry.Reason{{Code: belfry.NamedRole, Detail: s("detail")}}
			it.Subscription = &belfry.Subscription{Title: "S" + s("subscription")}
			return it
		}
		bad := make(func(label string) string { return hostile().Draw(t, label) })
		good := make(func(string) string { return "plain" })
		want := tmpl.Mail(good, links)
		got := tmpl.Mail(bad, links)
		if g, w := normal(elements(t, got.HTML)), normal(elements(t, want.HTML)); g != w {
			t.Fatalf("other elements:\n%s\nwant\n%s", g, w)
		}
		if strings.ContainsFunc(got.Subject, unicode.IsControl) {
			t.Fatalf("control character in subject %q", got.Subject)
		}
		if strings.ContainsAny(got.Subject+got.Text+got.HTML, "\u202e\x00") {
			t.Fatal("control characters got through")
		}
	})
}

// normal takes out what may differ: the words of the title in an attribute.
func normal(tags string) string {
	for {
		i := strings.Index(tags, ` aria-label="`)
		if i < 0 {
			return tags
		}
		j := strings.IndexByte(tags[i+13:], '"')
		tags = tags[:i] + tags[i+13+j+1:]
	}
}

// FuzzRender: no template and no data make Compile or a rendering panic, hang,
// or let through what the policy forbids.
func FuzzRender(f *testing.F) {
	f.Add(render.DefaultSubject, render.DefaultBody, `{"a":"b"}`, "Title")
	f.Add("{{event.data.v}}", hostileBody, `{"v":"<script>","list":[1,[2,{"a":null}]]}`, "<b>")
	f.Add("x", "{{#event.data.a}}{{#.}}{{b}}{{/.}}{{/event.data.a}}", `{"a":[[{"b":1}],{"b":"c"},"d",0.1,false]}`, "")
	f.Add("", "[a]({{event.data.u}} \"{{event.data.u}}\") <{{event.data.u}}> ![a]({{event.data.u}})\n[x]: {{event.data.u}}\n[x]", `{"u":"javascript:alert(1)"}`, "")
	f.Add("", "{{event.data.String}}{{event.data.a.String}}", `{"a":[1]}`, "")
	f.Fuzz(func(t *testing.T, subject, body, data, title string) {
		tmpl, err := render.Compile(subject, body)
		if err != nil {
			return
		}
		it := item(data)
		it.Object.Title, it.ActorName, it.Object.URL = title, title, title
		entry, mail := tmpl.Inbox(it), tmpl.Mail(it, links)
		if entry.Title == "" || strings.ContainsAny(mail.Subject, "\r\n") {
			t.Fatalf("subject %q", mail.Subject)
		}
		z := html.NewTokenizer(strings.NewReader(entry.HTML))
		for z.Next() != html.ErrorToken {
			tok := z.Token()
			switch tok.Data {
			case "script", "img", "style", "iframe", "svg", "object", "form", "input":
				if tok.Type != html.TextToken {
					t.Fatalf("<%s> in %s", tok.Data, entry.HTML)
				}
			}
			for _, a := range tok.Attr {
				l := strings.ToLower(strings.TrimSpace(a.Val))
				if strings.HasPrefix(a.Key, "on") || a.Key == "style" ||
					a.Key == "href" && !strings.HasPrefix(l, "http") && !strings.HasPrefix(l, "mailto:") && strings.Contains(l, ":") {
					t.Fatalf("%s=%q in %s", a.Key, a.Val, entry.HTML)
				}
			}
		}
	})
}

package render_test

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/render"
)

func item(data string) render.Item {
	return render.Item{
		Event: &belfry.Event{
			ID: "1", Source: "s", Type: "core.course_updated", Time: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
			Object: "course/41", Actor: "user/8", Data: []byte(data),
		},
		Object: belfry.Object{ID: "course/41", Type: "course", Title: "CPR", URL: "https://school.example/41"},
	}
}

// feature: PEER-11
func TestCompileSaysWhereTheMistakeIs(t *testing.T) {
	for _, c := range []struct{ name, subject, body, want string }{
		{"unknown root", "", "Hello\n  {{objekt.title}}", `/body: line 2, column 3: unknown value "objekt.title"; did you mean "object"?`},
		{"unknown field", "", "{{object.titel}}", `/body: line 1, column 1: unknown value "object.titel"; did you mean "object.title"?`},
		{"unknown field, none near", "", "{{actor.zzzzzzzz}}", `unknown value "actor.zzzzzzzz"; known are actor.id, actor.name`},
		{"below a leaf", "", "{{link.x}}", `unknown value "link.x"`},
		{"subject", "{{evnt.type}}", "x", `/subject: line 1, column 1: unknown value "evnt.type"; did you mean "event"?`},
		{"columns count characters", "", "äö{{x}}", `line 1, column 3: unknown value "x"`},
		{"raw", "", "{{{event.type}}}", "{{{ }}} is not available"},
		{"ampersand", "", "{{& event.type}}", "{{& }} is not available: values are always escaped; write {{event.type}}"},
		{"partial", "", "{{> /etc/hostname}}", "a template cannot include another"},
		{"delimiters", "", "{{=<% %>=}}", "tags are always written {{ }}"},
		{"never closed", "", "a\n{{#link}}b", "line 2, column 1: {{#link}} is never closed; add {{/link}}"},
		{"closed wrongly", "", "{{#link}}{{#path}}{{/link}}{{/path}}", "{{/link}} stands where {{/path}} is due"},
		{"closes nothing", "", "{{/link}}", "{{/link}} closes nothing"},
		{"no end", "", "{{link", "{{ has no }}"},
		{"empty", "", "{{ }}", "the tag is empty"},
		{"dot outside", "", "{{.}}", "it stands in none here"},
		{"free name outside data", "", "{{#details}}{{whatever}}{{/details}}", `unknown value "whatever"`},
		{"free name in the opposite", "", "{{^event.data.x}}{{whatever}}{{/event.data.x}}", `unknown value "whatever"`},
		{"two lines", "a\nb", "x", "/subject: the subject is one line"},
		{"too long", "", strings.Repeat("x", 16<<10+1), "at most 16384 are allowed"},
		{"too many tags", "", strings.Repeat("{{link}}", 501), "more than 500 tags"},
		{"too deep", "", strings.Repeat("{{#link}}", 9) + strings.Repeat("{{/link}}", 9), "nested more than 8 deep"},
		{"not text", "", "\xff", "not valid UTF-8"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := render.Compile(c.subject, c.body)
			if err == nil {
				t.Fatal("compiled")
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("got  %s\nwant %s", err, c.want)
			}
			if e := new(belfry.Error); !errors.As(err, &e) || e.Kind != belfry.Invalid || len(e.Fields) == 0 {
				t.Errorf("not an Invalid error with fields: %#v", err)
			}
		})
	}
}

func TestCompileAccepts(t *testing.T) {
	for _, body := range []string{
		"{{event.id}} {{event.data}} {{event.data.a.b.c}} {{record.x}} {{event.record.y}} {{event.variables.z}} {{event.related}}",
		"{{#event.data.list}}{{name}} {{.}} {{object.title}} {{a.b}}{{#inner}}{{x}}{{/inner}}{{/event.data.list}}",
		"{{#event}}{{type}} {{data.x}}{{/event}} {{#object}}{{title}}{{/object}}",
		"{{#details}}{{label}} {{value}}{{/details}} {{^link}}no link{{/link}} {{! note }}",
		"{{object.id}}{{object.title}}{{object.url}}{{object.type}}{{actor.id}}{{actor.name}}{{recipient.name}}" +
			"{{type.title}}{{type.name}}{{subscription.title}}{{subscription.id}}{{link}}{{path}}{{time}}",
		"", "}} plain { text",
	} {
		if _, err := render.Compile("", body); err != nil {
			t.Errorf("%q: %v", body, err)
		}
	}
}

// A template may loop over data in a loop over data; the work stays bounded.
func TestWorkIsBounded(t *testing.T) {
	long := `{"a":[` + strings.Repeat("1,", 60_000) + `1],"s":"` + strings.Repeat("x<", 60_000) + `"}`
	loop := func(n int, inner string) string {
		return strings.Repeat("{{#event.data.a}}", n) + inner + strings.Repeat("{{/event.data.a}}", n)
	}
	for name, body := range map[string]string{
		"empty loops":       loop(8, ""),
		"values":            loop(4, "{{event.data.s}}"),
		"text":              loop(4, "some text "),
		"missing":           loop(6, "{{event.data.none}}"),
		"one big":           "{{event.data.s}}{{event.data}}",
		"quotes":            loop(1, "> "),
		"brackets":          loop(1, "["),
		"emphasis":          loop(1, "*a_ "),
		"emphasis in lines": loop(1, "*a_\n"),
		"emphasis in parts": strings.Repeat(strings.Repeat("*a_ ", 400)+"\n\n", 10),
		"emphasis in items": loop(1, "    * *a_\n2. *a_\n* \n> *a_\n"),
		"written quotes":    strings.Repeat(">", 16<<10),
		"written lists":     strings.Repeat("* ", 8<<10),
		"written links":     strings.Repeat("[a](", 4<<10),
		"written ticks":     strings.Repeat("`a``", 4<<10),
	} {
		t.Run(name, func(t *testing.T) {
			tmpl, err := render.Compile("{{event.data.s}}"+strings.ReplaceAll(loop(3, "x"), "\n", ""), body)
			if err != nil {
				t.Fatal(err)
			}
			begun := time.Now()
			m := tmpl.Mail(item(long), links)
			if took := time.Since(begun); took > 10*time.Second {
				t.Errorf("took %v", took)
			}
			if n := len(m.HTML) + len(m.Text); n > 4<<20 {
				t.Errorf("%d bytes", n)
			}
			if n := len([]rune(m.Subject)); n > 200 {
				t.Errorf("subject of %d runes", n)
			}
		})
	}
}

// What is too much of emphasis in a paragraph is shown as it is written; lists of
// many items and many paragraphs have theirs.
func TestEmphasisIsBounded(t *testing.T) {
	for body, strong := range map[string]int{
		strings.Repeat("*a* ", 1500):             1000,
		strings.Repeat("*a*\n", 1500):            1000,
		strings.Repeat("* *a*\n", 1500):          1500,
		strings.Repeat("*a* *a*\n\n", 700):       1400,
		strings.Repeat(`\*a\* `, 1200) + "**b**": 0,
	} {
		tmpl, err := render.Compile("x", body)
		if err != nil {
			t.Fatal(err)
		}
		got := tmpl.Inbox(item(`{}`))
		if n := strings.Count(got.HTML, "<em>") + strings.Count(got.HTML, "<strong>"); n != strong {
			t.Errorf("%.20q has %d of emphasis, want %d", body, n, strong)
		}
		if strings.Contains(got.Text, `\`) {
			t.Errorf("%.20q shows a backslash", body)
		}
	}
}

func TestTypeTitle(t *testing.T) {
	for name, want := range map[string]string{
		"core.course_updated":          "Course updated",
		"mod_forum.post_created":       "Forum post created",
		"mod_forum.forum_opened":       "Forum opened",
		"mod_quiz.attempt_submitted":   "Quiz attempt submitted",
		"com.example.order.shipped":    "Order shipped",
		"orderShipped":                 "Order shipped",
		"backup":                       "Backup",
		"backup.done":                  "Backup done",
		`\core\event\user_loggedin`:    "User loggedin",
		"core.course_module_HTTPError": "Course module HTTPError",
		"":                             "Event",
		"...":                          "Event",
		"-_-":                          "Event",
		"élan.vital":                   "Élan vital",
	} {
		if got := render.TypeTitle(name); got != want {
			t.Errorf("TypeTitle(%q) = %q, want %q", name, got, want)
		}
	}
}

func TestLinkIsTheNearestWebAddress(t *testing.T) {
	for _, c := range []struct {
		own, parent, want string
	}{
		{"https://a.example/x", "https://b.example", "https://a.example/x"},
		{"", "https://b.example", "https://b.example"},
		{"javascript:alert(1)", "http://b.example/?q=<script>", "http://b.example/?q=<script>"},
		{"/relative", "ftp://x.example", ""},
		{"https://", "data:text/html,x", ""},
	} {
		it := item(`{}`)
		it.Object.URL = c.own
		it.Path = []belfry.Object{{ID: "category/1", Title: "Up", URL: c.parent}}
		m := render.Default().Mail(it, render.Links{})
		if m.URL != c.want {
			t.Errorf("%q, %q: link %q, want %q", c.own, c.parent, m.URL, c.want)
		}
		for _, bad := range []string{"javascript:", "<script>", "data:text"} {
			if strings.Contains(m.HTML, bad) {
				t.Errorf("%q in the mail:\n%s", bad, m.HTML)
			}
		}
	}
}

// The same item twice is the same message: a retry sends what was sent.
func TestRenderingIsRepeatable(t *testing.T) {
	it := item(`{"b":1,"a":"x","c":true,"m":{"z":1,"y":[1,2]}}`)
	tmpl, err := render.Compile("{{event.data}}", "{{event.data.m}}{{#details}}{{label}}{{value}}{{/details}}")
	if err != nil {
		t.Fatal(err)
	}
	first := fmt.Sprint(tmpl.Mail(it, links), tmpl.Inbox(it))
	for range 20 {
		if again := fmt.Sprint(tmpl.Mail(it, links), tmpl.Inbox(it)); again != first {
			t.Fatalf("differs:\n%s\n%s", first, again)
		}
	}
}

// The reader is told why in the second person, with names for ids.
func TestReasonsSpeakToTheReader(t *testing.T) {
	for _, c := range []struct {
		because belfry.Reason
		want    string
	}{
		{belfry.Reason{Code: belfry.NamedRole, Role: "teacher", Object: "course/41"}, "because you have the role teacher in CPR."},
		{belfry.Reason{Code: belfry.NamedRole, Role: "teacher", Object: "category/9"}, "because you have the role teacher in category/9."},
		{belfry.Reason{Code: belfry.NamedRole, Role: "manager", Object: belfry.RootObject}, "because you have the role manager."},
		{belfry.Reason{Code: belfry.NamedMember, Object: "category/2"}, "because you joined the subscription in Health."},
		{belfry.Reason{Code: belfry.NamedGroup, Group: "staff"}, "because you belong to the group staff."},
		{belfry.Reason{Code: belfry.NamedUser}, "because the subscription names you."},
		{belfry.Reason{Code: belfry.NamedAddress}, "because the subscription names this address."},
		{belfry.Reason{Code: belfry.NamedRelated}, "because it is about you."},
		{belfry.Reason{Code: belfry.ByMandatory}, "because a mandatory notice."},
	} {
		it := item(`{}`)
		it.Path = []belfry.Object{{ID: "category/2", Title: "Health"}}
		it.Because = []belfry.Reason{c.because}
		if m := render.Default().Mail(it, links); !strings.Contains(m.Text, c.want) || !strings.Contains(m.HTML, c.want) {
			t.Errorf("%+v: want %q in\n%s", c.because, c.want, m.Text)
		}
	}
}

// docs/templates.md names every value and shows the built-in template.
func TestDocumentedValues(t *testing.T) {
	doc, err := os.ReadFile("../../docs/templates.md")
	if err != nil {
		t.Fatal(err)
	}
	text := string(doc)
	for _, part := range []string{render.DefaultSubject, render.DefaultBody} {
		indented := "    " + strings.ReplaceAll(strings.TrimSpace(part), "\n", "\n    ")
		if !strings.Contains(strings.ReplaceAll(text, "\n\n", "\n    \n"), indented) {
			t.Errorf("docs/templates.md does not show the built-in template:\n%s", indented)
		}
	}
	// Each name in the table's first column is accepted.
	for _, row := range regexp.MustCompile("(?m)^\\| (`.*?) \\| ").FindAllStringSubmatch(text, -1) {
		for _, name := range regexp.MustCompile("`([a-z_.…]+)`").FindAllStringSubmatch(row[1], -1) {
			body := "{{" + strings.ReplaceAll(name[1], "…", "x") + "}}"
			if _, err := render.Compile("", body); err != nil {
				t.Errorf("docs/templates.md names %s: %v", name[1], err)
			}
		}
	}
}

// A value with parts that is named as a whole prints itself as JSON, wherever it
// stands, and its parts stay to be named.
func TestWholeValues(t *testing.T) {
	const parts = "{{object.title}} {{event.data.a.b}}"
	for _, c := range []struct{ body, want string }{
		{"{{actor}} " + parts, `{"id":"user/8","name":"user/8"} CPR 1`},
		{"{{#actor}}{{.}}{{/actor}} " + parts, `{"id":"user/8","name":"user/8"} CPR 1`},
		{"{{#event.data.a}}{{actor}}{{/event.data.a}} " + parts, `{"id":"user/8","name":"user/8"} CPR 1`},
		{"{{event.data}} " + parts, `{"a":{"b":1}} CPR 1`},
		{parts, "CPR 1"},
	} {
		tmpl, err := render.Compile("x", c.body)
		if err != nil {
			t.Fatal(err)
		}
		if got := tmpl.Inbox(item(`{"a":{"b":1}}`)).Text; got != c.want {
			t.Errorf("%s is %q, want %q", c.body, got, c.want)
		}
	}
}

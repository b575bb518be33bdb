package render

import (
	"cmp"
	"html/template"
	"strings"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/words"
)

// Item is an event with all that its message may speak of.
type Item struct {
	Event         *belfry.Event
	EventID       string
	Object        belfry.Object   // where it happened; the zero value = the root
	Path          []belfry.Object // its ancestors, nearest first; the object and the root may be among them and are left out
	ActorName     string          // empty = the actor's id is shown
	About         []string        // names of those the event is about, the actor left out
	Details       []string        // fields of the data that are details, dotted; nil = all simple ones
	TypeTitle     string          // in the recipient's language; empty = made from the type's name
	Subscription  *belfry.Subscription
	Because       []belfry.Reason // why the recipient is told; the first is shown
	Content       []string        // where the words of the thing are: fields of the data, or of record.…; the first that is there counts
	RecipientName string
	Locale        string         // BCP 47; empty = Fallback
	Fallback      string         // the tenant's language, when the reader's has no words; empty = en
	Zone          *time.Location // of the times shown; nil = UTC
	Link          string         // where the message leads, to be answered, instead of to the thing; empty = to the thing
	Site          Site
	Said          Words // what an expression computed for the reader

	builtin bool // the template is the house's own: dates are in the language of its texts
}

// Site is the platform as its administrator names it.
type Site struct{ Name, URL string }

// Links are the addresses a message offers its reader; empty ones are left out.
type Links struct {
	Why         string // page that explains this message
	Acknowledge string // page by which the reader says that she has taken notice
	Unsubscribe string // page and RFC 8058 one-click target for exactly this subscription
	Manage      string // the reader's subscriptions and preferences
}

// Entry is an inbox entry. HTML is a sanitised fragment.
type Entry struct {
	Title string
	Text  string
	HTML  string
	URL   string // where the thing is; empty = nowhere to go
}

// Inbox renders the entry an item makes in somebody's inbox.
func (t *Template) Inbox(item Item) Entry {
	item.builtin = t.builtin
	values := item.values(t)
	html, text := t.fragment(values)
	return Entry{Title: t.title(&item, values), Text: text, HTML: html, URL: item.link()}
}

// Title renders only the subject: plain text of one line, never empty.
func (t *Template) Title(item Item) string {
	item.builtin = t.builtin
	return t.title(&item, item.values(t))
}

// Mail renders the message an item makes for a mailbox: HTML is a whole
// document and Text its plain twin, both with the reason and the links below.
// The sender adds what only it knows: ID, ListID.
func (t *Template) Mail(item Item, links Links) belfry.Message {
	item.builtin = t.builtin
	values := item.values(t)
	body, text := t.fragment(values)
	m := belfry.Message{
		Subject:     t.title(&item, values),
		URL:         item.link(),
		Unsubscribe: links.Unsubscribe,
		Thread:      item.Event.ObjectOrRoot(),
		Locale:      item.locale(),
		Time:        item.Event.Time,
	}
	p := page{
		Lang: m.Locale, Title: m.Subject,
		Body: template.HTML(body), // sanitised by policy
		URL:  m.URL, URLText: item.linkText(), Reason: item.reason(), Links: links, say: item.say(),
	}
	if s := item.Subscription; s != nil {
		p.Subscription = oneLine(s.Title)
	}
	m.HTML, m.Text = p.html(), p.text(text)
	return m
}

func (t *Template) title(item *Item, values *values) string {
	s := cut(oneLine(run(t.subject, values, 8*maxSubject, func(s string) (string, bool) {
		return cut(oneLine(s[:min(len(s), 8*maxSubject)]), maxSubject), true
	})), maxSubject)
	if s == "" {
		return item.typeTitle()
	}
	return s
}

// actor is the id and name that may be shown; both empty for anonymous events.
func (it *Item) actor() (id, name string) {
	if it.Event.Has(belfry.FlagAnonymous) || it.Event.Actor == "" {
		return "", ""
	}
	if name = oneLine(it.ActorName); name == "" {
		name = it.Event.Actor
	}
	return it.Event.Actor, name
}

func (it *Item) typeTitle() string {
	if t := oneLine(it.TypeTitle); t != "" {
		return t
	}
	return TypeTitle(it.Event.Type)
}

// objectTitle is empty for the root when it has no title: "everywhere" says
// nothing.
func (it *Item) objectTitle() string {
	switch t := oneLine(it.Object.Title); {
	case t != "":
		return t
	case it.Object.ID == belfry.RootObject:
		return ""
	default:
		return it.Object.ID
	}
}

// link is where the reader can see the thing: the object's address or that of
// the nearest ancestor with one.
func (it *Item) link() string {
	u, _ := it.linked()
	return u
}

// linkText names what link leads to.
func (it *Item) linkText() string {
	_, o := it.linked()
	if o == nil {
		return ""
	}
	if t := oneLine(o.Title); t != "" {
		return t
	}
	return o.ID
}

func (it *Item) linked() (string, *belfry.Object) {
	if u := webURL(it.Link); u != "" {
		return u, &belfry.Object{Title: words.For(it.Locale, it.Fallback).Say("joining.page")}
	}
	if u := webURL(it.Object.URL); u != "" {
		return u, &it.Object
	}
	for i := range it.Path {
		if u := webURL(it.Path[i].URL); u != "" {
			return u, &it.Path[i]
		}
	}
	return "", nil
}

// breadcrumb is the titles of the ancestors from the top down.
func (it *Item) breadcrumb() string {
	var titles []string
	for i := len(it.Path) - 1; i >= 0; i-- {
		o := &it.Path[i]
		if t := oneLine(o.Title); t != "" && o.ID != it.Object.ID && o.ID != belfry.RootObject {
			titles = append(titles, t)
		}
	}
	return strings.Join(titles, " › ")
}

func (it *Item) zone() *time.Location {
	if it.Zone == nil {
		return time.UTC
	}
	return it.Zone
}

func (it *Item) time() string { return it.say().DateTime(it.Event.Time.In(it.zone())) }

// say is for the texts of the house in the reader's language.
func (it *Item) say() *words.Printer {
	if it.builtin {
		return words.For(it.Locale, it.Fallback)
	}
	return words.Around(it.Locale, it.Fallback)
}

// locale is the language that a message says it is in.
func (it *Item) locale() string { return cmp.Or(it.Locale, it.Fallback, "en") }

// reason is why the reader gets the message, as the end of the sentence "You
// get this because ...".
func (it *Item) reason() string {
	if len(it.Because) == 0 {
		return ""
	}
	r := it.Because[0]
	at := r.Object
	for _, o := range append([]belfry.Object{it.Object}, it.Path...) {
		if t := oneLine(o.Title); t != "" && o.ID == r.Object {
			at = t
			break
		}
	}
	if at == belfry.RootObject {
		at = ""
	}
	say := it.say()
	id := ""
	switch r.Code {
	case belfry.NamedUser:
		id = "because.user"
	case belfry.NamedAddress:
		id = "because.address"
	case belfry.NamedRelated:
		id = "because.related"
	case belfry.NamedWorkflow:
		id = "because.workflow"
	case belfry.NamedComputed:
		id = "because.computed"
	case belfry.NamedMember, belfry.NamedGroup, belfry.NamedRole:
		id = map[string]string{belfry.NamedMember: "because.member", belfry.NamedGroup: "because.group", belfry.NamedRole: "because.role"}[r.Code]
		if at != "" {
			id += "_in"
		}
	default:
		return oneLine(say.Reason(r))
	}
	return oneLine(say.Say(id, "Place", at, "Group", r.Group, "Role", r.Role))
}

package render

import (
	"html"
	"html/template"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/words"
)

// DigestMost is how many items of a digest are shown; of others it says that
// there are more.
const DigestMost = 500

// Digest is what one message tells of several events.
type Digest struct {
	Items     []DigestItem
	More      bool         // than Items
	Stops     []DigestStop // of each subscription in it
	Frequency belfry.Frequency
	Held      bool // by quiet hours
	Locale    string
	Fallback  string // where there are no words in Locale
	Links     Links  // Unsubscribe is of Stops
	Now       time.Time
}

// DigestItem is an event in words.
type DigestItem struct {
	Entry *Entry
	Event *belfry.Event
}

// DigestStop is where a subscription is ended.
type DigestStop struct{ Title, URL, ListID string }

// Sections of a digest.
const (
	sectionNew = iota
	sectionUpdated
	sectionRemoved
	sections
)

// endings of types tell what became of the thing, by the last word of the name.
var endings = map[string]int{
	"created": sectionNew, "added": sectionNew, "new": sectionNew, "posted": sectionNew, "uploaded": sectionNew, "inserted": sectionNew,
	"published": sectionNew, "announced": sectionNew, "submitted": sectionNew, "started": sectionNew,
	"deleted": sectionRemoved, "removed": sectionRemoved, "withdrawn": sectionRemoved, "cancelled": sectionRemoved,
}

func sectionOf(typ string) int {
	last := typ[strings.LastIndexAny(typ, "._-/")+1:]
	if s, ok := endings[strings.ToLower(last)]; ok {
		return s
	}
	return sectionUpdated
}

// sectionIDs name the texts of each section.
var sectionIDs = [sections]string{"digest.new", "digest.updated", "digest.removed"}

// things are the items that are shown: each, or, where the state counts as it is
// sent, the latest of each object, new when it became so meanwhile.
func (d *Digest) things() (of [sections][]*DigestItem) {
	if d.Frequency.Content != belfry.ContentSend {
		for i := range d.Items {
			s := sectionOf(d.Items[i].Event.Type)
			of[s] = append(of[s], &d.Items[i])
		}
		return of
	}
	latest, born := map[string]int{}, map[string]bool{}
	var order []string
	for i := range d.Items {
		object := d.Items[i].Event.ObjectOrRoot()
		if _, seen := latest[object]; !seen {
			order = append(order, object)
		}
		latest[object] = i
		born[object] = born[object] || sectionOf(d.Items[i].Event.Type) == sectionNew
	}
	for _, object := range order {
		it := &d.Items[latest[object]]
		s := sectionOf(it.Event.Type)
		if s == sectionUpdated && born[object] {
			s = sectionNew
		}
		if s == sectionRemoved && born[object] {
			continue // came and went: nothing is left of it
		}
		of[s] = append(of[s], it)
	}
	return of
}

// Mail renders the digest for a mailbox; what other channels send is its
// subject and text. The sender adds what only it knows: ID, Thread.
func (d *Digest) Mail() belfry.Message {
	say := words.For(d.Locale, d.Fallback)
	of := d.things()
	var body, text strings.Builder
	rich, bare := 0, 0
	for _, items := range of {
		for _, it := range items {
			rich += len(it.Entry.HTML) + len(it.Entry.URL) + len(it.Entry.Title)
			bare += len(it.Entry.Text) + len(it.Entry.URL)
		}
	}
	const around = 200 // what is written about an item
	body.Grow(rich + around*(len(d.Items)+len(d.Stops)+2))
	text.Grow(bare + around/10*len(d.Items) + around*(len(d.Stops)+2))
	var counts []string
	shown := 0
	for s, items := range of {
		if len(items) == 0 {
			continue
		}
		counts = append(counts, say.Count(sectionIDs[s]+"_count", len(items)))
		heading := say.Say(sectionIDs[s])
		body.WriteString(`<h2 style="font-size:1.1em;margin:1.4em 0 .4em">` + html.EscapeString(heading) + "</h2>\n")
		text.WriteString(heading + "\n" + strings.Repeat("-", utf8.RuneCountInString(heading)) + "\n\n")
		for _, it := range items {
			shown++
			body.WriteString(`<section style="margin:0 0 1em;padding:0 0 .6em;border-bottom:1px solid #d5dae1">`)
			body.WriteString(it.Entry.HTML)
			if it.Entry.URL != "" && !strings.Contains(it.Entry.HTML, html.EscapeString(it.Entry.URL)) {
				body.WriteString(`<p><a href="` + html.EscapeString(it.Entry.URL) + `">` + html.EscapeString(it.Entry.Title) + "</a></p>")
			}
			body.WriteString("</section>\n")
			text.WriteString(it.Entry.Text)
			text.WriteByte('\n')
			if it.Entry.URL != "" && !strings.Contains(it.Entry.Text, it.Entry.URL) {
				text.WriteString(it.Entry.URL)
				text.WriteByte('\n')
			}
			text.WriteByte('\n')
		}
	}
	if d.More {
		body.WriteString("<p>" + html.EscapeString(say.Say("digest.more")) + "</p>\n")
		text.WriteString(say.Say("digest.more") + "\n\n")
	}
	m := belfry.Message{Locale: say.Language(), Time: d.Now}
	head := say.Say("digest." + d.Frequency.Every)
	if d.Held {
		head = say.Say("digest.quiet")
	}
	p := page{Lang: m.Locale, Links: d.Links, say: say}
	if len(d.Stops) == 1 {
		stop := &d.Stops[0]
		m.Unsubscribe, m.ListID, p.Links.Unsubscribe, p.Subscription = stop.URL, stop.ListID, stop.URL, oneLine(stop.Title)
		if p.Subscription != "" {
			head = p.Subscription + " · " + head
		}
	}
	if m.Subject = cut(head+": "+strings.Join(counts, ", "), maxSubject); shown == 1 {
		m.Subject = cut(head+": "+only(of).Entry.Title, maxSubject)
	}
	if len(d.Stops) > 1 {
		body.WriteString(`<p style="font-size:13px">` + html.EscapeString(say.Say("mail.stop")) + ":")
		text.WriteString(say.Say("mail.stop") + ":\n")
		for i, stop := range d.Stops {
			title := oneLine(stop.Title)
			if title == "" {
				title = say.Say("digest.this")
			}
			if i > 0 {
				body.WriteString(" ·")
			}
			body.WriteString(` <a href="` + html.EscapeString(stop.URL) + `">` + html.EscapeString(title) + "</a>")
			text.WriteString(title + ": " + stop.URL + "\n")
		}
		body.WriteString("</p>\n")
	}
	p.Title, p.Body = m.Subject, template.HTML(body.String()) // of entries that are sanitised, and escaped
	m.HTML, m.Text = p.html(), p.text(strings.TrimRight(text.String(), "\n"))
	return m
}

func only(of [sections][]*DigestItem) *DigestItem {
	for _, items := range of {
		if len(items) > 0 {
			return items[0]
		}
	}
	return nil
}

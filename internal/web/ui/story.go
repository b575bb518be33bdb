package ui

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"html/template"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/words"
)

// story is everything that came of one event.
type story struct {
	EventID  string
	Missing  bool   // no such event, or it cannot be read: Problem says why
	Problem  string // for people
	Title    string
	Accepted time.Time
	JSON     string
	Pending  bool // something is still under way
	Summary  string

	Subscriptions []storySubscription
	Told, NotTold []line
	Inbox         []entry
	Mails         []storyMail
	Hooks         []storyHook
}

type storySubscription struct {
	Title   string
	Because string
}

// line is one person, address or system, told or not.
type line struct {
	Name    string
	ID      string // the platform's, as small print
	Channel string // set when the line speaks of one channel only
	Sends   []send
	Because []string
}

// send is one delivery: its channel and how it stands.
type send struct {
	Channel, State string
}

type entry struct {
	Name    string
	Title   string
	HTML    template.HTML
	Because string
	Read    bool
}

type storyMail struct {
	Mail
	Name string
}

type storyHook struct {
	Hook
	Try  int // counts the tries of one delivery
	Head []Header
	JSON string
}

// Version changes whenever what a part shows does: the script replaces only
// parts whose version changed.
func (s *story) Version(part string) string {
	h := fnv.New64a()
	var v any
	switch part {
	case "summary":
		v = []any{s.EventID, s.Title, s.Summary, s.Problem, s.Pending}
	case "people":
		v = []any{s.EventID, s.Subscriptions, s.Told, s.NotTold, s.Pending}
	case "inbox":
		v = []any{s.EventID, s.Inbox, s.Pending}
	case "mail":
		v = []any{s.EventID, s.Pending, s.mailIDs()}
	case "hook":
		v = []any{s.EventID, s.Hooks, s.Pending}
	case "event":
		v = []any{s.EventID, s.JSON}
	}
	fmt.Fprint(h, v)
	return fmt.Sprintf("%x", h.Sum64())
}

func (s *story) mailIDs() []int {
	ids := make([]int, len(s.Mails))
	for i, m := range s.Mails {
		ids[i] = m.ID
	}
	return ids
}

// story reads what came of an event. What cannot be read is said on the page.
func (d *Demo) story(ctx context.Context, id string, p *words.Printer) *story {
	s := &story{EventID: id}
	t := teller{d, p}
	answer, err := d.o.House.Trace(ctx, id)
	if err != nil {
		s.Missing, s.Problem = true, p.Say("demo.no_event", "Error", err.Error())
		return s
	}
	s.Title = t.title(id, answer.Event.Type)
	s.JSON = pretty(answer.Event.Event)
	if answer.Event.Accepted != nil {
		s.Accepted = *answer.Event.Accepted
	}
	s.Pending = !answer.Planned
	deliveries, err := d.o.House.Deliveries(ctx, id)
	if err != nil {
		s.Problem = p.Say("demo.no_deliveries", "Error", err.Error())
	}
	states := map[string]Delivery{}
	for _, x := range deliveries {
		states[x.ID] = x
		if st, ok := belfry.ParseState(x.State); ok && st.Open() {
			s.Pending = true
		}
	}
	for _, sub := range answer.Subscriptions {
		if sub.Matched {
			s.Subscriptions = append(s.Subscriptions, storySubscription{Title: cmp.Or(sub.Title, sub.ID), Because: t.sentences(sub.Because)})
		}
	}
	ours := map[string]bool{} // ids of the event's deliveries
	for _, who := range answer.People {
		l := line{
			ID: cmp.Or(who.Principal, who.Address, who.Endpoint), Channel: who.Channel,
			Because: t.reasons(who.Because),
		}
		l.Name = t.name(l.ID)
		for _, dlv := range who.Deliveries {
			ours[dlv] = true
			x := send{Channel: states[dlv].Channel, State: states[dlv].State}
			if x.Channel == "" && dlv == belfry.DeliveryID(id, 0, belfry.ChannelInbox, who.Principal) {
				x = send{Channel: belfry.ChannelInbox, State: belfry.Delivered.String()}
			}
			l.Sends = append(l.Sends, x)
		}
		slices.SortFunc(l.Sends, func(a, b send) int { return cmp.Compare(order(a.Channel), order(b.Channel)) })
		if who.Outcome != belfry.Told {
			s.NotTold = append(s.NotTold, l)
			continue
		}
		s.Told = append(s.Told, l)
		if who.Principal != "" {
			s.readInbox(ctx, t, who.Principal)
		}
	}
	s.catch(d, ours)
	s.Summary = s.summary(p)
	return s
}

func (s *story) readInbox(ctx context.Context, t teller, user string) {
	items, err := t.d.o.House.Inbox(ctx, user)
	if err != nil {
		s.Problem = t.Say("demo.no_entries", "Error", err.Error())
		return
	}
	for _, it := range items {
		if it.Event == s.EventID {
			s.Inbox = append(s.Inbox, entry{
				Name: t.name(user), Title: it.Title, Read: it.Read, Because: sentence(t.text(it.Reason)),
				HTML: template.HTML(it.HTML), // sanitised where it was made, and the page's policy runs nothing
			})
		}
	}
}

// catch adds the mails and webhooks of the event's deliveries.
func (s *story) catch(d *Demo, ours map[string]bool) {
	for _, m := range d.o.Catcher.Mails() {
		for id := range ours {
			if strings.Contains(m.MessageID, id) {
				name := m.To
				for _, p := range d.o.People {
					if p.Address == m.To {
						name = p.Name
					}
				}
				s.Mails = append(s.Mails, storyMail{Mail: m, Name: name})
				break
			}
		}
	}
	tries := map[string]int{}
	for _, h := range d.o.Catcher.Hooks() {
		if !ours[h.Delivery] {
			continue
		}
		tries[h.Delivery]++
		sh := storyHook{Hook: h, Try: tries[h.Delivery], JSON: indent(h.Body)}
		for _, name := range []string{"Webhook-Id", "Webhook-Timestamp", "Webhook-Signature", "Content-Type", "User-Agent"} {
			if v := h.Head.Get(name); v != "" {
				sh.Head = append(sh.Head, Header{Name: strings.ToLower(name), Value: v})
			}
		}
		s.Hooks = append(s.Hooks, sh)
	}
	slices.Reverse(s.Hooks) // the newest try is what one waits for
}

func (s *story) summary(p *words.Printer) string {
	told := map[string]bool{}
	for _, l := range s.Told {
		told[l.ID] = true
	}
	not := map[string]bool{}
	for _, l := range s.NotTold {
		if !told[l.ID] {
			not[l.ID] = true
		}
	}
	text := p.Say("demo.summary", "Told", p.Count("demo.told_count", len(told)), "Not", strconv.Itoa(len(not)), "Inbox", p.Count("demo.inbox_count", len(s.Inbox)),
		"Mail", p.Count("demo.mail_count", len(s.Mails)), "Hook", p.Count("demo.hook_count", len(s.Hooks)))
	if s.Pending {
		return text + p.Say("demo.under_way")
	}
	return text
}

// teller tells a story in a language.
type teller struct {
	d *Demo
	*words.Printer
}

func (t teller) title(id, typ string) string {
	for _, m := range t.d.told() {
		if m.EventID == id {
			return t.Say(m.Title)
		}
	}
	return typ
}

func (t teller) name(id string) string {
	if n := t.d.names[id]; n != "" {
		return t.Say(n)
	}
	return id
}

// reasons are the words of reasons, each once.
func (t teller) reasons(list []belfry.ReasonView) []string {
	var out []string
	for _, r := range list {
		if s := sentence(t.text(r)); s != "" && !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

// text is a reason with the names people know in the place of ids.
func (t teller) text(r belfry.ReasonView) string {
	if place := t.d.o.Places[r.Object]; place != "" {
		r.Object = place
	}
	return t.Reason(r.Reason)
}

// sentences are reasons as one sentence.
func (t teller) sentences(list []belfry.ReasonView) string {
	texts := make([]string, 0, len(list))
	for _, r := range list {
		texts = append(texts, t.Reason(r.Reason))
	}
	return sentence(strings.Join(texts, "; "))
}

func sentence(s string) string {
	if s == "" {
		return ""
	}
	r := []rune(s)
	return strings.ToUpper(string(r[:1])) + string(r[1:])
}

// order is the order of channels on the page.
func order(channel string) int {
	return slices.Index([]string{belfry.ChannelInbox, "email", belfry.ChannelWebhook}, channel)
}

func pretty(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return ""
	}
	return indent(b)
}

// indent lays JSON out for reading; what is not JSON stays as it is.
func indent(raw []byte) string {
	var out bytes.Buffer
	if json.Indent(&out, raw, "", "  ") != nil {
		return string(raw)
	}
	return out.String()
}

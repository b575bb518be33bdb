package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/client"
)

// Question is what Explain is asked: of a stored event, or of one that is only
// supposed.
type Question struct {
	EventID   string
	Principal string // of this person only
	Suppose   Draft  // without an EventID
}

// Explain prints who was (or would be) told of an event, who not, and why.
func Explain(ctx context.Context, c *client.Client, out Out, q Question) error {
	whole := belfry.Answer{}
	var pages []json.RawMessage
	for after := ""; ; {
		var raw json.RawMessage
		var err error
		if q.EventID != "" {
			path := "/v1/events/" + url.PathEscape(q.EventID) + "/trace" + query{"principal": q.Principal, "after": after, "limit": "1000"}.String()
			err = c.Call(ctx, http.MethodGet, path, nil, &raw)
		} else {
			var body []byte
			if body, err = q.Suppose.body(); err == nil {
				err = c.Call(ctx, http.MethodPost, "/v1/explain", json.RawMessage(body), &raw)
			}
		}
		if err != nil {
			return err
		}
		var a belfry.Answer
		if err := json.Unmarshal(raw, &a); err != nil {
			return err
		}
		pages = append(pages, raw)
		people := append(whole.People, a.People...)
		whole = a
		whole.People = people
		if after = a.Next; after == "" || q.EventID == "" {
			break
		}
	}
	if q.EventID == "" && q.Principal != "" {
		whole.People = only(whole.People, q.Principal)
	}
	var sends map[string]send
	if q.EventID != "" && !out.JSON {
		var err error
		if sends, err = sendsOf(ctx, c, q.EventID); err != nil {
			return err
		}
	}
	if out.JSON {
		if len(pages) == 1 && q.Principal == "" {
			return out.Value(pages[0])
		}
		return out.Value(whole)
	}
	return writeAnswer(out, &whole, sends)
}

// send is what Explain says of a delivery.
type send struct {
	ID      string    `json:"id"`
	Channel string    `json:"channel"`
	State   string    `json:"state"`
	Due     time.Time `json:"due"`
	Tries   int       `json:"tries"`
}

// sendsOf are the deliveries of an event by id, without inbox entries, which
// arrive by being planned. Nobody who asks whether people were told may read
// told of a mail that no relay took.
func sendsOf(ctx context.Context, c *client.Client, event string) (map[string]send, error) {
	sends := map[string]send{}
	for after := ""; ; {
		var page struct {
			Items []send `json:"items"`
			Next  string `json:"next"`
		}
		if err := c.Call(ctx, http.MethodGet, "/v1/deliveries"+query{"event": event, "after": after, "limit": "1000"}.String(), nil, &page); err != nil {
			return nil, err
		}
		for _, s := range page.Items {
			sends[s.ID] = s
		}
		if after = page.Next; after == "" {
			return sends, nil
		}
	}
}

func (s send) String() string {
	words := fmt.Sprintf("%s %s", clean(s.Channel), clean(s.State))
	if s.Tries > 1 || s.Tries == 1 && s.State != belfry.Delivered.String() {
		words += fmt.Sprintf(", try %d", s.Tries)
	}
	if s.State == belfry.Retrying.String() {
		words += ", again " + stamp(s.Due)
	}
	return words + ": GET /v1/deliveries/" + clean(s.ID)
}

func only(people []belfry.AnswerPerson, principal string) []belfry.AnswerPerson {
	list := []belfry.AnswerPerson{}
	for _, p := range people {
		if p.Principal == principal || p.Address == principal || p.Endpoint == principal {
			list = append(list, p)
		}
	}
	if len(list) == 0 {
		list = append(list, belfry.AnswerPerson{Principal: principal, Outcome: belfry.NotTold,
			Because: belfry.ViewReasons([]belfry.Reason{{Code: belfry.NobodyNamed}}), Deliveries: []string{}})
	}
	return list
}

func writeAnswer(out Out, a *belfry.Answer, sends map[string]send) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s  %s\n", a.Event.EventID, subject(&a.Event.Event))
	switch {
	case a.Event.EventID == "":
		b.Reset()
		fmt.Fprintf(&b, "supposed: %s\n", subject(&a.Event.Event))
	case !a.Planned:
		b.WriteString("still being planned: more may follow\n")
	case a.Computed:
		b.WriteString("computed with today's data\n")
	}
	b.WriteString("\nsubscriptions\n")
	if len(a.Subscriptions) == 0 {
		b.WriteString("  none wants it\n")
	}
	for _, s := range a.Subscriptions {
		mark := "no "
		if s.Matched {
			mark = "yes"
		}
		name := s.ID
		if s.Title != "" {
			name += " " + clean(s.Title)
		}
		why := reasons(s.Because)
		if s.Condition != nil {
			why += "; " + clean(s.Condition.Text)
		}
		fmt.Fprintf(&b, "  %s  %s: %s\n", mark, name, why)
	}
	b.WriteString("\npeople\n")
	if len(a.People) == 0 {
		b.WriteString("  nobody was named\n")
	}
	for _, p := range a.People {
		who := clean(p.Principal)
		if p.Address != "" {
			who = strings.TrimSpace(who + " <" + clean(p.Address) + ">")
		}
		if p.Endpoint != "" {
			who = "endpoint " + clean(p.Endpoint)
		}
		if who == "" { // a decision that is nobody's in particular
			who = "anybody"
			if len(p.Because) > 0 && p.Because[0].Rule > 0 {
				who = fmt.Sprintf("by rule %d of %s", p.Because[0].Rule, clean(p.Because[0].Subscription))
			}
		}
		mark := "told    "
		if p.Outcome != belfry.Told {
			mark = "not told"
		}
		on := ""
		if p.Channel != "" {
			on = " on " + clean(p.Channel)
		}
		fmt.Fprintf(&b, "  %s  %s%s: %s\n", mark, who, on, reasons(p.Because))
		for _, id := range p.Deliveries {
			if s, ok := sends[id]; ok {
				fmt.Fprintf(&b, "            %s\n", s)
			}
		}
	}
	writeEscalation(&b, a)
	_, err := out.Write([]byte(b.String()))
	return err
}

// writeEscalation says who has taken notice, and who is told next if nobody does.
func writeEscalation(b *strings.Builder, a *belfry.Answer) {
	for i, ack := range a.Acknowledged {
		if i == 0 {
			b.WriteString("\nacknowledged\n")
		}
		fmt.Fprintf(b, "  %s  by %s (%s)\n", stamp(ack.At), clean(ack.Who), clean(ack.How))
	}
	for i := range a.Escalation {
		if i == 0 {
			b.WriteString("\nif nobody acknowledges\n")
		}
		e := &a.Escalation[i]
		name := clean(e.Subscription)
		if e.Title != "" {
			name += " " + clean(e.Title)
		}
		var who []string
		for _, u := range e.Users {
			who = append(who, clean(u))
		}
		for _, g := range e.Groups {
			who = append(who, "group "+clean(g))
		}
		switch {
		case e.Of == 0:
			fmt.Fprintf(b, "  %s  nothing: %s is paused, has ended or has no step %d any more\n", stamp(e.Due), name, e.Step)
			continue
		case e.Again:
			who = []string{"whoever was told, again"}
		}
		on := ""
		if len(e.Channels) > 0 {
			on = " on " + clean(strings.Join(e.Channels, ", "))
		}
		fmt.Fprintf(b, "  %s  %s%s: step %d of %d of %s\n", stamp(e.Due), strings.Join(who, ", "), on, e.Step, e.Of, name)
	}
}

package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"

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
	if out.JSON {
		if len(pages) == 1 && q.Principal == "" {
			return out.Value(pages[0])
		}
		return out.Value(whole)
	}
	return writeAnswer(out, &whole)
}

func only(people []belfry.AnswerPerson, principal string) []belfry.AnswerPerson {
	list := []belfry.AnswerPerson{}
	for _, p := range people {
		if p.Principal == principal || p.Address == principal || p.Endpoint == principal {
			list = append(list, p)
		}
	}
	return list
}

func writeAnswer(out Out, a *belfry.Answer) error {
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
		fmt.Fprintf(&b, "  %s  %s: %s\n", mark, name, reasons(s.Because))
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
		mark := "told    "
		if p.Outcome != belfry.Told {
			mark = "not told"
		}
		on := ""
		if p.Channel != "" {
			on = " on " + clean(p.Channel)
		}
		fmt.Fprintf(&b, "  %s  %s%s: %s\n", mark, who, on, reasons(p.Because))
	}
	_, err := out.Write([]byte(b.String()))
	return err
}

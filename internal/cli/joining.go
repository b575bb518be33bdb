package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/client"
)

func subscriptionPath(id string) string { return "/v1/subscriptions/" + url.PathEscape(id) }

// subscription is one as lists show it.
type subscription struct {
	ID       string       `json:"id"`
	Title    string       `json:"title"`
	Scope    belfry.Scope `json:"scope"`
	Types    []string     `json:"types"`
	Origin   string       `json:"origin"`
	Preset   string       `json:"preset"`
	State    string       `json:"state"`
	Because  string       `json:"because"`
	Readable string       `json:"readable"`
	Warnings []string     `json:"warnings"`
}

func (s *subscription) line() string {
	where := s.Scope.Object
	if where == "" {
		where = belfry.RootObject
	}
	what := strings.Join(s.Types, " ")
	if what == "" {
		what = "everything"
	}
	line := fmt.Sprintf("%-7s  %s  %s  (%s at %s, by %s)", s.State, s.ID, clean(s.Title), clean(what), clean(where), s.Origin)
	if s.Preset != "" {
		line += " preset " + s.Preset
	}
	if s.Because != "" {
		line += "  " + clean(s.Because)
	}
	return line
}

// ListSubscriptions prints the subscriptions that have not ended.
func ListSubscriptions(ctx context.Context, c *client.Client, out Out, typ, object string) error {
	return pages(ctx, c, "/v1/subscriptions", query{"type": typ, "object": object}, func(raw *json.RawMessage) error {
		if out.JSON {
			return out.Value(raw)
		}
		var s subscription
		if err := json.Unmarshal(*raw, &s); err != nil {
			return err
		}
		return out.Line("%s", s.line())
	})
}

// OneSubscription prints a subscription, after it was paused or resumed when
// that is asked.
func OneSubscription(ctx context.Context, c *client.Client, out Out, id, action, because string) error {
	method, path := http.MethodGet, subscriptionPath(id)
	var body any
	if action != "" {
		method, path = http.MethodPost, path+"/"+action
		if action == "pause" {
			body = map[string]string{"because": because}
		}
	}
	var raw json.RawMessage
	if err := c.Call(ctx, method, path, body, &raw); err != nil {
		return err
	}
	if out.JSON {
		return out.Value(raw)
	}
	var s subscription
	if err := json.Unmarshal(raw, &s); err != nil {
		return err
	}
	if err := out.Line("%s\n%s", s.line(), clean(s.Readable)); err != nil {
		return err
	}
	for _, w := range s.Warnings {
		if err := out.Line("warning: %s", clean(w)); err != nil {
			return err
		}
	}
	return nil
}

// EndSubscription ends a subscription.
func EndSubscription(ctx context.Context, c *client.Client, out Out, id string) error {
	if err := c.Call(ctx, http.MethodDelete, subscriptionPath(id), nil, nil); err != nil || out.JSON {
		return err
	}
	return out.Line("subscription %s has ended", clean(id))
}

// Member is who joins, where and how.
type Member struct {
	Subscription string            `json:"subscription,omitempty"`
	Principal    string            `json:"principal"`
	Object       string            `json:"object,omitempty"`
	Channels     []string          `json:"channels,omitempty"`
	Frequency    *belfry.Frequency `json:"frequency,omitempty"`
}

// Often is a frequency by its word; an empty one says nothing.
func Often(word string) *belfry.Frequency {
	if word == "" {
		return nil
	}
	return &belfry.Frequency{Every: word}
}

// member is a Member as it is shown.
type member struct {
	Member
	By      string    `json:"by,omitempty"`
	Since   time.Time `json:"since,omitzero"`
	Title   string    `json:"title,omitempty"`
	State   string    `json:"state,omitempty"`
	Because string    `json:"because,omitempty"`
}

func (m *member) how() string {
	line := ""
	if m.Object != "" {
		line += "  at " + clean(m.Object)
	}
	if len(m.Channels) > 0 {
		line += "  by " + clean(strings.Join(m.Channels, ", "))
	}
	if m.Frequency != nil {
		line += "  " + m.Frequency.Every
	}
	line += "  since " + stamp(m.Since)
	if m.By != "" {
		line += ", added by " + clean(m.By)
	}
	return line
}

// ListMembers prints who joined a subscription.
func ListMembers(ctx context.Context, c *client.Client, out Out, id string) error {
	return pages(ctx, c, subscriptionPath(id)+"/members", query{}, func(m *member) error {
		if out.JSON {
			return out.Value(m)
		}
		return out.Line("%s%s", clean(m.Principal), m.how())
	})
}

// ListMemberships prints what a user joined.
func ListMemberships(ctx context.Context, c *client.Client, out Out, user string) error {
	return pages(ctx, c, "/v1/users/"+url.PathEscape(user)+"/subscriptions", query{}, func(raw *json.RawMessage) error {
		if out.JSON {
			return out.Value(raw)
		}
		var m member
		if err := json.Unmarshal(*raw, &m); err != nil {
			return err
		}
		line := fmt.Sprintf("%-7s  %s  %s%s", m.State, m.Subscription, clean(m.Title), m.how())
		if m.Because != "" {
			line += "  " + clean(m.Because)
		}
		return out.Line("%s", line)
	})
}

// AddMembers adds members, as an administrator.
func AddMembers(ctx context.Context, c *client.Client, out Out, id string, ms []Member) error {
	var answer struct {
		Stored int `json:"stored"`
	}
	if err := c.Call(ctx, http.MethodPost, subscriptionPath(id)+"/members:batch", ms, &answer); err != nil {
		return err
	}
	if out.JSON {
		return out.Value(answer)
	}
	return out.Line("%d joined", answer.Stored)
}

// DropMembers takes members out of what they joined at an object.
func DropMembers(ctx context.Context, c *client.Client, out Out, id, object string, who []string) error {
	for _, w := range who {
		if err := c.Call(ctx, http.MethodDelete, subscriptionPath(id)+"/members"+query{"principal": w, "object": object}.String(), nil, nil); err != nil {
			return err
		}
		if !out.JSON {
			if err := out.Line("%s is out", clean(w)); err != nil {
				return err
			}
		}
	}
	return nil
}

// Wish is what a user wants to hear of.
type Wish struct {
	Types     []string          `json:"types"`
	Object    string            `json:"object,omitempty"`
	Applies   string            `json:"applies,omitempty"`
	Filter    string            `json:"filter,omitempty"`
	Channels  []string          `json:"channels,omitempty"`
	Frequency *belfry.Frequency `json:"frequency,omitempty"`
}

// Subscribe makes a user a member of the subscription of her wish.
func Subscribe(ctx context.Context, c *client.Client, out Out, user string, w Wish) error {
	var raw json.RawMessage
	if err := c.Call(ctx, http.MethodPost, "/v1/users/"+url.PathEscape(user)+"/subscriptions", w, &raw); err != nil {
		return err
	}
	if out.JSON {
		return out.Value(raw)
	}
	var answer struct {
		Subscription subscription
		Created      bool
	}
	if err := json.Unmarshal(raw, &answer); err != nil {
		return err
	}
	with := "sharing it with whoever wants the same"
	if answer.Created {
		with = "the first to want this"
	}
	return out.Line("%s joined %s, %s\n%s", clean(user), answer.Subscription.ID, with, clean(answer.Subscription.Readable))
}

// Joiner is who joins or leaves by themselves.
type Joiner struct {
	User      string            `json:"user,omitempty"`
	Email     string            `json:"email,omitempty"`
	Object    string            `json:"object,omitempty"`
	Channels  []string          `json:"channels,omitempty"`
	Frequency *belfry.Frequency `json:"frequency,omitempty"`
}

// Join lets somebody join, or leave.
func Join(ctx context.Context, c *client.Client, out Out, id, action string, j Joiner) error {
	var answer struct {
		State string `json:"state"`
	}
	if err := c.Call(ctx, http.MethodPost, subscriptionPath(id)+"/"+action, j, &answer); err != nil {
		return err
	}
	switch {
	case out.JSON:
		return out.Value(answer)
	case answer.State == "asked":
		return out.Line("%s is asked by mail to confirm, if there is anything to confirm", clean(j.Email))
	}
	return out.Line("%s has %s", clean(j.User+j.Email), answer.State)
}

// Invite asks users and addresses whether they want to join.
func Invite(ctx context.Context, c *client.Client, out Out, id string, users, emails []string, object string) error {
	var answer struct {
		Invited int `json:"invited"`
	}
	body := Given(map[string]string{"object": object}, map[string]any{"users": users, "emails": emails})
	if err := c.Call(ctx, http.MethodPost, subscriptionPath(id)+"/invite", body, &answer); err != nil {
		return err
	}
	if out.JSON {
		return out.Value(answer)
	}
	return out.Line("%d are asked, those who have not joined already", answer.Invited)
}

// PendingJoins prints what waits for an answer by mail.
func PendingJoins(ctx context.Context, c *client.Client, out Out, id string) error {
	type pending struct {
		Who    string    `json:"who"`
		Object string    `json:"object,omitempty"`
		For    string    `json:"for"`
		By     string    `json:"by,omitempty"`
		Asked  time.Time `json:"asked"`
		Until  time.Time `json:"until"`
		Sent   bool      `json:"sent"`
	}
	return pages(ctx, c, subscriptionPath(id)+"/pending", query{}, func(p *pending) error {
		if out.JSON {
			return out.Value(p)
		}
		state := "waits to be sent"
		if p.Sent {
			state = "sent"
		}
		at := ""
		if p.Object != "" {
			at = "  at " + clean(p.Object)
		}
		return out.Line("%-10s  %s%s  %s  until %s", p.For, clean(p.Who), at, state, stamp(p.Until))
	})
}

// Table is an import.
type Table struct {
	File         string
	Subscription string // empty = each row says it
	DryRun       bool
	Ask          bool
	All          bool // print every row
}

// importedRow is what became of a row.
type importedRow struct {
	Row     int    `json:"row"`
	Outcome string `json:"outcome"`
	Text    string `json:"text"`
}

func tablePath(subscription, what string) string {
	if subscription == "" {
		return "/v1/subscriptions:" + what
	}
	return subscriptionPath(subscription) + "/members:" + what
}

// ImportMembers sends a table and prints what became of its rows, as the server
// says it: all of a dry run, else those that were refused. It fails when some
// were.
func ImportMembers(ctx context.Context, c *client.Client, out Out, t Table, in io.Reader, progress io.Writer) error {
	raw, err := readFile(t.File, in, "table", "import it in parts, each with the head")
	if err != nil {
		return err
	}
	q := query{}
	if t.DryRun {
		q["dry_run"] = "true"
	}
	if t.Ask {
		q["ask"] = "true"
	}
	resp, err := c.Send(ctx, http.MethodPost, tablePath(t.Subscription, "import")+q.String(), "text/csv; charset=utf-8", bytes.NewReader(raw))
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	total := bytes.Count(raw, []byte{'\n'})
	rows := 0
	show := func(r *importedRow) error {
		rows++
		if progress != nil && rows%100 == 1 {
			_, _ = fmt.Fprintf(progress, "\r%d of %d lines ", r.Row, total) // a terminal that is gone shows nothing
		}
		switch {
		case out.JSON:
			return out.Value(r)
		case t.DryRun || t.All || r.Outcome == "refused":
			return out.Line("line %d: %s: %s", r.Row, r.Outcome, clean(r.Text))
		}
		return nil
	}
	totals, why, err := imported(json.NewDecoder(resp.Body), show)
	if progress != nil && rows > 0 {
		_, _ = fmt.Fprint(progress, "\r                                \r")
	}
	if err != nil {
		return fmt.Errorf("the answer is not whole, and the rows after those that are listed may not be done: %w; import the table again, which changes nothing of what is", err)
	}
	n := totals
	if out.JSON {
		err = out.Value(map[string]any{"totals": n})
	} else {
		would := ""
		if t.DryRun {
			would = "a dry run: nothing was done\n"
		}
		err = out.Line("%s%d rows: %d joined, %d changed, %d unchanged, %d asked, %d refused; %d subscriptions made", would, n.Rows, n.Joined, n.Changed, n.Unchanged, n.Asked, n.Refused, n.Created)
	}
	switch {
	case err != nil:
		return err
	case why != "":
		return errors.New(why)
	case n.Refused > 0:
		return fmt.Errorf("%d of %d rows were refused: mend them and import the table again, which changes nothing of the others", n.Refused, n.Rows)
	}
	return nil
}

// importTotals count rows.
type importTotals struct {
	Rows      int `json:"rows"`
	Joined    int `json:"joined"`
	Changed   int `json:"changed"`
	Unchanged int `json:"unchanged"`
	Asked     int `json:"asked"`
	Refused   int `json:"refused"`
	Created   int `json:"created"`
}

// imported reads the answer to an import as it comes.
func imported(in *json.Decoder, show func(*importedRow) error) (totals importTotals, why string, err error) {
	if _, err = in.Token(); err != nil { // the brace
		return totals, "", err
	}
	for in.More() {
		name, err := in.Token()
		if err != nil {
			return totals, "", err
		}
		switch name {
		case "items":
			if _, err := in.Token(); err != nil { // the bracket
				return totals, "", err
			}
			for in.More() {
				var r importedRow
				if err := in.Decode(&r); err != nil {
					return totals, "", err
				}
				if err := show(&r); err != nil {
					return totals, "", err
				}
			}
			_, err = in.Token()
		case "totals":
			err = in.Decode(&totals)
		case "error":
			err = in.Decode(&why)
		default:
			err = in.Decode(new(json.RawMessage))
		}
		if err != nil {
			return totals, "", err
		}
	}
	_, err = in.Token()
	return totals, why, err
}

// ExportMembers writes who joined as a table.
func ExportMembers(ctx context.Context, c *client.Client, out io.Writer, subscription string) error {
	resp, err := c.Send(ctx, http.MethodGet, tablePath(subscription, "export"), "", nil)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if _, err = io.Copy(out, resp.Body); err != nil {
		return fmt.Errorf("the table is not whole: %w", err)
	}
	return nil
}

package e2e_test

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/config"
)

// edges is a running program in which each edge case has names of its own.
type edges struct {
	*house
	n int
}

func newEdges(t *testing.T) *edges {
	t.Parallel() // they mostly wait, each for a program of its own
	e := &edges{house: newHouse(t, func(*testing.T, *config.Config) {})}
	e.call(http.MethodPut, "/v1/objects/place", m{"type": "place", "title": "Place"}, nil)
	return e
}

// row runs a row of a table with a person, an object and an event type of its own.
func (e *edges) row(t *testing.T, name string, do func(c *edge)) {
	outer := e.t
	t.Run(name, func(t *testing.T) {
		e.t = t
		defer func() { e.t = outer }()
		e.n++
		c := &edge{edges: e, who: fmt.Sprintf("p%d", e.n), at: fmt.Sprintf("o%d", e.n), typ: fmt.Sprintf("case%d.", e.n)}
		e.call(http.MethodPut, "/v1/users/"+c.who, m{"name": "Ada " + c.who, "email": c.who + "@example.org"}, nil)
		e.call(http.MethodPut, "/v1/objects/"+c.at, m{"type": "thing", "title": "Thing " + c.at, "parent": "place"}, nil)
		do(c)
	})
}

type edge struct {
	*edges
	who, at, typ string
}

// sub makes a subscription to the case's events that tells its person by mail.
func (c *edge) sub(frequency any, edit m) (id string) {
	c.t.Helper()
	body := m{"types": []string{c.typ + "*"}, "recipients": []m{{"explicit": m{"users": []string{c.who}}}}, "notify": []m{{"channels": []string{"email"}}}}
	if frequency != nil {
		body["frequency"] = frequency
	}
	for k, v := range edit {
		body[k] = v
	}
	var made struct{ ID string }
	c.call(http.MethodPost, "/v1/subscriptions", body, &made)
	return made.ID
}

// happens sends an event of the case and gives its id once it is planned.
func (c *edge) happens(verb string, edit m) string {
	c.t.Helper()
	body := m{"source": "/edges", "type": c.typ + verb, "object": c.at}
	for k, v := range edit {
		body[k] = v
	}
	var got struct{ IDs []string }
	c.call(http.MethodPost, "/v1/events", body, &got)
	c.await("the event to be planned", func() string {
		if !c.trace(got.IDs[0], "").Planned {
			return "it is not"
		}
		return ""
	})
	return got.IDs[0]
}

func (c *edge) letters() []letter { return c.mail.to(c.who + "@example.org") }

// comes waits for the n-th letter, and that no more come.
func (c *edge) comes(n int) letter {
	c.t.Helper()
	c.await(fmt.Sprintf("letter %d", n), func() string {
		if got := len(c.letters()); got < n {
			return fmt.Sprintf("%d came", got)
		}
		return ""
	})
	c.quiet()
	all := c.letters()
	if len(all) != n {
		c.t.Fatalf("%d letters came, want %d", len(all), n)
	}
	return all[n-1]
}

// none says that no letter more than n has come of all that happened.
func (c *edge) none(n int) {
	c.t.Helper()
	c.quiet()
	if got := len(c.letters()); got != n {
		c.t.Errorf("%d letters came, want %d", got, n)
	}
}

// open is the person's open digest.
func (c *edge) open() digest {
	c.t.Helper()
	list := c.digestsOf(c.who, "open")
	if len(list) != 1 {
		c.t.Fatalf("open digests: %+v", list)
	}
	return list[0]
}

// over waits for a digest to end.
func (c *edge) over(id, state string) digest {
	c.t.Helper()
	var d digest
	c.await("the digest to be "+state, func() string {
		c.call(http.MethodGet, "/v1/digests/"+id, nil, &d)
		if d.State != state {
			return fmt.Sprintf("%+v", d)
		}
		return ""
	})
	return d
}

func (c *edge) fate(event string) string {
	c.t.Helper()
	return fates(c.trace(event, c.who))[c.who]
}

// The tables of Sahana Eden's notifications, each row less its defect: its
// windows (1.4), new and updated (1.5), and its edge cases (1.8).
//
// feature: S3-10, S3-14, S3-16, S3-17, NEW-11
func TestEdgesOfEden(t *testing.T) {
	e := newEdges(t)
	e.row(t, "1.4 no update: nothing waits and nothing is sent", func(c *edge) {
		c.sub("daily", nil)
		if list := c.digestsOf(c.who, "open"); len(list) != 0 {
			c.t.Errorf("%+v", list)
		}
		c.none(0)
	})
	e.row(t, "1.4 updates that do not match move nobody's time", func(c *edge) {
		c.sub(m{"every": "daily", "clock": "elapsed"}, m{"filter": "event.data.x == 1"})
		began := time.Now()
		c.happens("set", m{"data": m{"x": 1}})
		c.comes(1)
		sent := time.Now()
		c.happens("set", m{"data": m{"x": 2}})
		c.happens("set", m{"data": m{"x": 1}})
		if d := c.open(); d.Items != 1 || d.Due.Before(began.Add(24*time.Hour)) || d.Due.After(sent.Add(24*time.Hour+time.Second)) {
			c.t.Errorf("%+v, want a day after the letter", d)
		}
		c.none(1)
	})
	e.row(t, "1.4 a new weekly subscription: nothing of before, the first change at once", func(c *edge) {
		c.happens("set", nil)
		c.sub(m{"every": "weekly", "clock": "elapsed"}, nil)
		c.none(0)
		c.happens("set", nil)
		c.comes(1)
		c.happens("set", nil)
		c.none(1)
	})
	e.row(t, "1.4 an outage: one message has all that came before it and after", func(c *edge) {
		c.sub("daily", nil)
		c.happens("first", nil)
		c.stop()
		c.start()
		c.happens("second", nil)
		d := c.open()
		c.hasten(d.ID)
		l := c.comes(1)
		if d.Items != 2 || strings.Count(l.text, " first: Thing") != 1 || strings.Count(l.text, " second: Thing") != 1 {
			c.t.Errorf("%+v: %s", d, l.text)
		}
	})
	e.row(t, "1.4 and 2.9 another frequency takes what waits along, once", func(c *edge) {
		c.sub("daily", nil)
		c.happens("first", nil)
		c.call(http.MethodPut, "/v1/users/"+c.who+"/preferences", []m{{"frequency": "weekly"}}, nil)
		c.await("it to wait for the week", func() string {
			if list := c.digestsOf(c.who, "open"); len(list) != 1 || list[0].Frequency.Every != "weekly" || list[0].Items != 1 {
				return fmt.Sprintf("%+v", list)
			}
			return ""
		})
		c.happens("second", nil)
		c.call(http.MethodPut, "/v1/users/"+c.who+"/preferences", []m{{"frequency": "immediate"}}, nil)
		l := c.comes(1) // what waited, in one
		if list := c.digestsOf(c.who, "open"); len(list) != 0 || strings.Count(l.text, " first: Thing") != 1 || strings.Count(l.text, " second: Thing") != 1 {
			c.t.Errorf("%s, and %+v wait", l.text, list)
		}
		c.happens("third", nil)
		c.comes(2)
	})
	e.row(t, "1.4 left and joined again: nothing of what came between or before", func(c *edge) {
		sub := c.sub("daily", m{"recipients": []m{}, "joining": m{"who": "members", "greet": false}})
		c.call(http.MethodPost, "/v1/subscriptions/"+sub+"/join", m{"user": c.who}, nil)
		c.happens("before", nil)
		c.call(http.MethodPost, "/v1/subscriptions/"+sub+"/leave", m{"user": c.who}, nil)
		c.happens("between", nil)
		c.call(http.MethodPost, "/v1/subscriptions/"+sub+"/join", m{"user": c.who}, nil)
		c.happens("after", nil)
		c.hasten(c.open().ID)
		if l := c.comes(1); strings.Contains(l.text+l.subject, "before") || strings.Contains(l.text+l.subject, "between") || !strings.Contains(l.text+l.subject, "after") {
			c.t.Errorf("%q %s", l.subject, l.text)
		}
	})
	e.row(t, "1.4 never is a pause: what happens meanwhile is not told, and why is known", func(c *edge) {
		c.sub(nil, nil)
		c.call(http.MethodPut, "/v1/users/"+c.who+"/preferences", []m{{"frequency": "never"}}, nil)
		if got := c.fate(c.happens("set", nil)); got != "named_user frequency_never" {
			c.t.Error(got)
		}
		c.call(http.MethodPut, "/v1/users/"+c.who+"/preferences", []m{}, nil)
		c.happens("set", nil)
		c.comes(1)
	})
	e.row(t, "1.5 new, updated and removed apart; changed often is told once, by its latest state", func(c *edge) {
		c.sub(m{"every": "daily", "content": "send"}, m{"notify": []m{{"channels": []string{"email"}, "subject": "s", "body": "{{object.title}} {{event.data.n}}"}}})
		for _, id := range []string{"a", "b", "c"} {
			c.call(http.MethodPut, "/v1/objects/"+c.at+id, m{"type": "thing", "title": "Thing " + id, "parent": c.at}, nil)
		}
		c.happens("created", m{"object": c.at + "a", "data": m{"n": 1}})
		for n := 2; n <= 4; n++ {
			c.happens("updated", m{"object": c.at + "b", "data": m{"n": n}})
		}
		c.happens("deleted", m{"object": c.at + "c", "data": m{"n": 9}})
		c.hasten(c.open().ID)
		l := c.comes(1)
		at := func(text string) int { return strings.Index(l.text, text) }
		if at("Thing a 1") < 0 || at("Thing b 4") < at("Thing a 1") || at("Thing c 9") < at("Thing b 4") || at("Thing b 2") >= 0 || at("Thing b 3") >= 0 || strings.Count(l.text, "Thing b 4") != 1 {
			c.t.Errorf("%s", l.text)
		}
	})
	e.row(t, "1.5 only updates are asked for: what is new makes no message, not an empty one", func(c *edge) {
		c.sub("daily", m{"types": []string{c.typ + "updated"}})
		if got := c.fate(c.happens("created", nil)); got != belfry.NobodyNamed {
			c.t.Error(got)
		}
		if list := c.digestsOf(c.who, "open"); len(list) != 0 {
			c.t.Errorf("%+v", list)
		}
	})
	e.row(t, "1.5 one's own changes are left out, unless they are asked for", func(c *edge) {
		c.sub(nil, nil)
		if got := c.fate(c.happens("set", m{"actor": c.who})); got != "named_user is_actor" {
			c.t.Error(got)
		}
		c.sub(nil, m{"exclude_actor": false})
		c.happens("set", m{"actor": c.who})
		c.comes(1)
	})
	e.row(t, "1.5 and 1.8 two subscriptions, two groups and by name: one message", func(c *edge) {
		for _, g := range []string{"x", "y"} {
			c.call(http.MethodPut, "/v1/groups/"+c.who+g, m{"members": []string{c.who}}, nil)
		}
		c.sub(nil, nil)
		c.sub(nil, m{"recipients": []m{{"explicit": m{"users": []string{c.who}, "groups": []string{c.who + "x", c.who + "y"}}}}})
		c.happens("set", nil)
		c.comes(1)
	})
	e.row(t, "1.5 what happens to a part is told to who asked for the whole", func(c *edge) {
		c.call(http.MethodPut, "/v1/objects/"+c.at+"part", m{"type": "part", "parent": c.at}, nil)
		c.sub(nil, m{"scope": m{"object": c.at}})
		c.happens("set", m{"object": c.at + "part"})
		c.comes(1)
	})
	e.row(t, "1.8 who has no account sees what everybody may", func(c *edge) {
		c.call(http.MethodPut, "/v1/event-types/"+c.typ+"inner", m{"title": "Inner", "see_roles": []string{"reader"}}, nil)
		address := "guest-" + c.who + "@example.org"
		c.sub(nil, m{"recipients": []m{{"explicit": m{"emails": []string{address}}}}})
		if got := fates(c.trace(c.happens("inner", nil), ""))[address]; got != "named_address may_not_see" {
			c.t.Error(got)
		}
		c.happens("open", nil)
		c.quiet()
		if got := len(c.mail.to(address)); got != 1 {
			c.t.Errorf("%d letters came", got)
		}
	})
	e.row(t, "1.8 one way fails and another succeeds: each has its own end", func(c *edge) {
		c.call(http.MethodPut, "/v1/channels/away", m{"kind": "email", "settings": m{"url": "smtp://127.0.0.1:1", "from": "away@school.example"}}, nil)
		c.sub(nil, m{"notify": []m{{"channels": []string{"email", "away"}}}})
		id := c.happens("set", nil)
		c.await("one to be delivered and one to be tried again", func() string {
			states := map[string]string{}
			for _, d := range all[delivery](c.house, "/v1/deliveries?event="+id+"&") {
				states[d.Channel] = d.State
			}
			return cmp.Diff(map[string]string{"email": "delivered", "away": "retrying"}, states)
		})
		c.call(http.MethodDelete, "/v1/channels/away", nil, nil)
		for _, d := range all[delivery](c.house, "/v1/deliveries?state=retrying&") {
			c.call(http.MethodPost, "/v1/deliveries/"+d.ID+"/cancel", m{}, nil)
		}
		c.comes(1)
	})
	e.row(t, "1.8 the subscription is deleted while something waits", func(c *edge) {
		sub := c.sub("daily", nil)
		id := c.happens("set", nil)
		d := c.open()
		c.call(http.MethodDelete, "/v1/subscriptions/"+sub, nil, nil)
		if list := c.digestsOf(c.who, "open"); len(list) > 0 { // it is looked at when it is due
			c.hasten(d.ID)
		}
		c.over(d.ID, "over")
		c.none(0)
		if got := c.fate(id); got == belfry.Told || !strings.HasPrefix(got, "named_user") {
			c.t.Error(got)
		}
	})
	e.row(t, "1.8 the filter is deleted: paused, never widened", func(c *edge) {
		c.call(http.MethodPut, "/v1/filters/"+c.who, m{"filter": "event.data.x == 1"}, nil)
		sub := c.sub(nil, m{"filters": []string{c.who}})
		c.call(http.MethodDelete, "/v1/filters/"+c.who, nil, nil)
		var s belfry.Subscription
		c.call(http.MethodGet, "/v1/subscriptions/"+sub, nil, &s)
		if s.State != belfry.SubscriptionPaused {
			c.t.Errorf("%+v", s)
		}
		c.happens("set", m{"data": m{"x": 1}})
		c.happens("set", m{"data": m{"x": 2}})
		c.none(0)
	})
	e.row(t, "1.8 the account is disabled while something waits", func(c *edge) {
		c.sub("daily", nil)
		id := c.happens("set", nil)
		d := c.open()
		c.call(http.MethodPut, "/v1/users/"+c.who, m{"name": "Ada", "email": c.who + "@example.org", "state": "suspended"}, nil)
		c.hasten(d.ID)
		c.over(d.ID, "over")
		c.none(0)
		if got := c.fate(id); !strings.HasSuffix(got, "user_suspended") {
			c.t.Error(got)
		}
	})
	e.row(t, "1.8 what cannot be worked out is said in the template's words", func(c *edge) {
		c.sub(nil, m{"notify": []m{{"channels": []string{"email"}, "message": `event.data.n / 0 > 1 ? "never" : ""`, "subject": "Good {{event.data.missing}}day", "body": "b"}}})
		c.happens("set", m{"data": m{"n": 7}})
		if l := c.comes(1); l.subject != "Good day" {
			c.t.Errorf("%q", l.subject)
		}
	})
	e.row(t, "1.8 very much: one message of bounded size, which says what it leaves out", func(c *edge) {
		c.sub("daily", nil)
		var many []m
		for n := range 1200 {
			many = append(many, m{"source": "/edges", "type": c.typ + "set", "object": c.at, "data": m{"n": n, "text": strings.Repeat("long ", 300)}})
		}
		c.call(http.MethodPost, "/v1/events", many, nil)
		c.await("all to wait", func() string {
			if list := c.digestsOf(c.who, "open"); len(list) != 1 || list[0].Items != len(many) {
				return fmt.Sprintf("%+v", list)
			}
			return ""
		})
		c.hasten(c.open().ID)
		l := c.comes(1)
		if len(l.raw) > 1<<20 || !strings.Contains(l.text, "more") {
			c.t.Errorf("%d bytes: %.300s … %s", len(l.raw), l.text, l.text[max(0, len(l.text)-300):])
		}
	})
}

// The tables of CPS's subscriptions that are about digests (2.9), leaving
// (2.11) and odd cases (2.13), less their defects. Those of its rules, its
// merged roles and its workflow (2.5 to 2.7) are TestRecipientsOfCPS; who joins
// by mail (2.11) is TestAddressesJoinByMail, and who may join how is in
// internal/manage: TestJoinAndLeave, TestAddressesConfirm and
// TestOneMailWaitsForAnAnswer; the end of subscriptions of a deleted object
// (2.13) is in internal/app.
//
// feature: CPS-5, CPS-9, CPS-22, CPS-23, NEW-4
func TestEdgesOfCPS(t *testing.T) {
	e := newEdges(t)
	e.row(t, "2.9 whoever leaves does not get what waits", func(c *edge) {
		sub := c.sub("daily", m{"recipients": []m{}, "joining": m{"who": "anyone", "greet": false}})
		c.call(http.MethodPost, "/v1/subscriptions/"+sub+"/members", m{"principal": c.who}, nil)
		id := c.happens("set", nil)
		d := c.open()
		c.call(http.MethodPost, "/v1/subscriptions/"+sub+"/leave", m{"user": c.who}, nil)
		c.over(d.ID, "over") // with nothing left to wait for
		c.none(0)
		if got := c.fate(id); got == belfry.Told {
			c.t.Error(got)
		}
	})
	e.row(t, "2.9 who may see it is asked again when it is sent", func(c *edge) {
		c.call(http.MethodPut, "/v1/event-types/"+c.typ+"set", m{"title": "Set", "see_roles": []string{"reader"}}, nil)
		c.call(http.MethodPut, "/v1/objects/"+c.at+"/grants", []m{{"principal": c.who, "role": "reader"}}, nil)
		c.sub("daily", nil)
		id := c.happens("set", nil)
		d := c.open()
		c.call(http.MethodPut, "/v1/objects/"+c.at+"/grants", []m{}, nil)
		c.hasten(d.ID)
		c.over(d.ID, "over")
		c.none(0)
		if got := c.fate(id); !strings.HasSuffix(got, "may_not_see") {
			c.t.Error(got)
		}
	})
	e.row(t, "2.9 and 2.13 a digest that cannot be sent is tried again, whole", func(c *edge) {
		c.call(http.MethodPut, "/v1/channels/away", m{"kind": "email", "settings": m{"url": "smtp://127.0.0.1:1", "from": "away@school.example"}}, nil)
		c.sub("daily", m{"notify": []m{{"channels": []string{"away"}}}})
		c.happens("first", nil)
		c.happens("second", nil)
		d := c.open()
		c.hasten(d.ID)
		var sealed digest
		c.await("a try", func() string {
			c.call(http.MethodGet, "/v1/digests/"+d.ID, nil, &sealed)
			if sealed.Delivery == "" {
				return "it is not sealed"
			}
			var v delivery
			c.call(http.MethodGet, "/v1/deliveries/"+sealed.Delivery, nil, &v)
			if v.State != "retrying" {
				return v.State
			}
			return ""
		})
		c.call(http.MethodPut, "/v1/channels/away", m{"kind": "email", "settings": m{"url": c.mail.URL(), "from": "away@school.example"}}, nil)
		c.call(http.MethodPost, "/v1/deliveries/"+sealed.Delivery+"/retry", m{}, nil)
		l := c.comes(1)
		if !strings.Contains(l.text, " first: Thing") || !strings.Contains(l.text, " second: Thing") {
			c.t.Errorf("%s", l.text)
		}
	})
	e.row(t, "2.11 who opted out of a role's messages stays out when the rules are edited, and may come back", func(c *edge) {
		c.call(http.MethodPut, "/v1/objects/"+c.at+"/grants", []m{{"principal": c.who, "role": "reader"}}, nil)
		rules := func(roles ...string) m {
			return m{"recipients": []m{{"role": m{"roles": roles}}}}
		}
		sub := c.sub(nil, m{"recipients": rules("reader")["recipients"], "joining": m{"who": "members", "greet": false}})
		c.call(http.MethodPost, "/v1/subscriptions/"+sub+"/leave", m{"user": c.who}, nil)
		c.call(http.MethodPatch, "/v1/subscriptions/"+sub, rules("reader", "writer"), nil)
		if got := c.fate(c.happens("set", nil)); got != "named_role opted_out" {
			c.t.Error(got)
		}
		c.call(http.MethodPost, "/v1/subscriptions/"+sub+"/join", m{"user": c.who}, nil)
		c.happens("set", nil)
		c.comes(1)
	})
	e.row(t, "2.13 an empty place of its own silences what is above", func(c *edge) {
		c.call(http.MethodPut, "/v1/objects/"+c.at+"/settings", m{"lookup": "nearest", "own_subscriptions": true}, nil)
		c.sub(nil, nil)
		c.happens("set", nil)
		c.none(0)
		c.call(http.MethodPut, "/v1/objects/"+c.at+"/settings", m{}, nil)
		c.happens("set", nil)
		c.comes(1)
	})
	e.row(t, "2.13 what is deleted is told by where it was", func(c *edge) {
		c.call(http.MethodPut, "/v1/objects/"+c.at+"in", m{"type": "thing", "title": "Inner", "parent": c.at}, nil)
		c.call(http.MethodPut, "/v1/objects/"+c.at+"/grants", []m{{"principal": c.who, "role": "reader"}}, nil)
		c.sub(nil, m{"scope": m{"object": c.at}, "recipients": []m{{"role": m{"roles": []string{"reader"}}}}})
		c.call(http.MethodDelete, "/v1/objects/"+c.at, nil, nil)
		for n, at := range []string{c.at + "in", c.at} {
			if got := c.fate(c.happens("deleted", m{"object": at})); got != belfry.Told {
				c.t.Errorf("%s: %s", at, got)
			}
			c.comes(n + 1)
		}
	})
	e.row(t, "2.13 what is put away as a copy is silent, with all that is in it", func(c *edge) {
		c.call(http.MethodPut, "/v1/objects/"+c.at+"copy", m{"type": "thing", "parent": c.at}, nil)
		c.call(http.MethodPut, "/v1/objects/"+c.at+"/settings", m{"flags": []string{"silent"}}, nil)
		c.sub(nil, nil)
		if got := c.fate(c.happens("set", m{"object": c.at + "copy"})); got != "named_user place_silent" {
			c.t.Error(got)
		}
		c.none(0)
	})
	e.row(t, "2.13 a message that cannot be sent is kept, and sent when it can be", func(c *edge) {
		away := "away" + c.who
		c.call(http.MethodPut, "/v1/channels/"+away, m{"kind": "email", "settings": m{"url": "smtp://127.0.0.1:1", "from": "away@school.example"}}, nil)
		c.sub(nil, m{"notify": []m{{"channels": []string{away}}}})
		id := c.happens("set", nil)
		var d delivery
		c.await("a try", func() string {
			for _, d = range all[delivery](c.house, "/v1/deliveries?event="+id+"&") {
				if d.State == "retrying" {
					return ""
				}
			}
			return d.State
		})
		c.call(http.MethodPut, "/v1/channels/"+away, m{"kind": "email", "settings": m{"url": c.mail.URL(), "from": "away@school.example"}}, nil)
		c.call(http.MethodPost, "/v1/deliveries/"+d.ID+"/retry", m{}, nil)
		c.comes(1)
	})
	e.row(t, "2.13 nobody did it: it is told all the same", func(c *edge) {
		c.sub(nil, m{"notify": []m{{"channels": []string{"email"}, "subject": "by [{{actor.name}}]", "body": "b"}}})
		c.happens("set", nil)
		if l := c.comes(1); l.subject != "by []" {
			c.t.Errorf("%q", l.subject)
		}
	})
	e.row(t, "2.13 a type that is not declared for the place is told to whom an administrator named", func(c *edge) {
		c.call(http.MethodPut, "/v1/event-types/"+c.typ+"set", m{"title": "Set", "object_types": []string{"elsewhere"}}, nil)
		c.sub(nil, nil)
		c.happens("set", nil)
		c.comes(1)
	})
	e.row(t, "2.13 the same twice in one act is told once, and many things pasted are many", func(c *edge) {
		c.sub(nil, nil)
		first := c.happens("set", m{"commit": c.who})
		if got := c.fate(first); got != belfry.Told {
			c.t.Error(got)
		}
		c.happens("set", m{"commit": c.who})
		c.none(1)
		for n := range 3 {
			c.call(http.MethodPut, "/v1/objects/"+fmt.Sprint(c.at, "-", n), m{"type": "thing", "parent": "place"}, nil)
			c.happens("pasted", m{"object": fmt.Sprint(c.at, "-", n), "commit": c.who + "b"})
		}
		c.comes(4)
	})
	e.row(t, "2.13 no address: nothing is lost silently", func(c *edge) {
		c.call(http.MethodPut, "/v1/users/"+c.who, m{"name": "Ada"}, nil)
		c.sub(nil, nil)
		if got := c.fate(c.happens("set", nil)); got != "named_user no_address" {
			c.t.Error(got)
		}
	})
	e.row(t, "2.13 a listed address is out after groups are expanded, also another's spelling of it", func(c *edge) {
		c.call(http.MethodPut, "/v1/groups/"+c.who+"g", m{"members": []string{c.who}}, nil)
		c.sub(nil, m{"recipients": []m{{"explicit": m{"groups": []string{c.who + "g"}}}}, "exclude": m{"emails": []string{strings.ToUpper(c.who) + "@Example.ORG"}}})
		if got := c.fate(c.happens("set", nil)); got != "named_group blacklisted" {
			c.t.Error(got)
		}
	})
}

// What Moodle's event monitor does (reference 5.2), with the fixes named there:
// a rule for the whole site counts what happens in activities, whoever did all of
// it is not told, groups are counted apart, nobody is named for an anonymous
// event, and one message tells of all that counted.
//
// feature: MDL-23
func TestEdgesOfTheEventMonitor(t *testing.T) {
	e := newEdges(t)
	three := func(more m) m {
		c := m{"count": 3, "within": "10m"}
		for k, v := range more {
			c[k] = v
		}
		return m{"condition": c}
	}
	e.row(t, "a rule of the whole site counts what happens in activities", func(c *edge) {
		c.sub(nil, three(nil))
		for n := range 3 {
			at := fmt.Sprint(c.at, "-", n)
			c.call(http.MethodPut, "/v1/objects/"+at, m{"type": "activity", "parent": c.at}, nil)
			c.none(0)
			c.happens("viewed", m{"object": at})
		}
		c.comes(1)
	})
	e.row(t, "a rule of a course counts its own alone", func(c *edge) {
		c.sub(nil, m{"scope": m{"object": c.at}, "condition": three(nil)["condition"]})
		for range 3 {
			c.happens("viewed", m{"object": "place"})
		}
		c.happens("viewed", nil)
		c.happens("viewed", nil)
		c.none(0)
		c.happens("viewed", nil)
		c.comes(1)
	})
	e.row(t, "whoever did all of it is not told, unless she asks to be", func(c *edge) {
		c.sub(nil, three(nil))
		for range 3 {
			c.happens("viewed", m{"actor": c.who})
		}
		c.none(0)
		c.sub(nil, m{"exclude_actor": false, "condition": three(nil)["condition"]})
		for range 3 {
			c.happens("viewed", m{"actor": c.who})
		}
		c.comes(1)
	})
	e.row(t, "each actor is counted apart, and begins anew after a message", func(c *edge) {
		c.sub(nil, three(m{"group_by": "event.actor"}))
		for range 2 {
			c.happens("viewed", m{"actor": "ann"})
			c.happens("viewed", m{"actor": "bob"})
		}
		c.none(0)
		c.happens("viewed", m{"actor": "bob"})
		c.comes(1)
		c.happens("viewed", m{"actor": "bob"})
		c.happens("viewed", m{"actor": "bob"})
		c.none(1)
	})
	e.row(t, "many at once are one message", func(c *edge) {
		c.sub(nil, three(m{"cooldown": "1h"}))
		var many []m
		for range 30 {
			many = append(many, m{"source": "/edges", "type": c.typ + "viewed", "object": c.at})
		}
		c.call(http.MethodPost, "/v1/events", many, nil)
		c.comes(1)
	})
	e.row(t, "a paused rule counts nothing", func(c *edge) {
		sub := c.sub(nil, three(nil))
		c.happens("viewed", nil)
		c.happens("viewed", nil)
		c.call(http.MethodPost, "/v1/subscriptions/"+sub+"/pause", m{}, nil)
		c.happens("viewed", nil)
		c.call(http.MethodPost, "/v1/subscriptions/"+sub+"/resume", m{}, nil)
		c.happens("viewed", nil)
		c.none(0)
	})
	e.row(t, "an anonymous answer counts and names nobody", func(c *edge) {
		c.sub(nil, m{"condition": three(nil)["condition"], "notify": []m{{"channels": []string{"email"}, "subject": "[{{actor.name}}{{event.actor}}]", "body": "b"}}})
		for range 3 {
			c.happens("answered", m{"actor": "somebody", "flags": []string{belfry.FlagAnonymous}})
		}
		if l := c.comes(1); strings.Contains(l.subject+l.text, "somebody") {
			c.t.Errorf("%q %s", l.subject, l.text)
		}
	})
}

// digest is one of GET /v1/digests.
type digest struct {
	ID, State, Delivery string
	Items               int
	Due                 time.Time
	Frequency           belfry.Frequency
}

// digestsOf are somebody's in a state, the newest first.
func (h *house) digestsOf(who, state string) []digest {
	h.t.Helper()
	var page struct{ Items []digest }
	h.call(http.MethodGet, "/v1/digests?recipient="+url.QueryEscape(who)+"&state="+state, nil, &page)
	return slices.Clone(page.Items)
}

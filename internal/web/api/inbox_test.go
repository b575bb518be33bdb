package api_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/web/api"
)

// tell plans an event for somebody's inbox, and for a webhook.
func (h *house) tell(principal string) (eventID, itemID string) {
	h.t.Helper()
	r := h.post(202, `{"type":"a.b","object":"course/41"}`)
	id := *r.IDs[0]
	item := belfry.Delivery{Tenant: "default", ID: belfry.DeliveryID(id, 0, belfry.ChannelInbox, principal), EventID: id, Channel: belfry.ChannelInbox, Principal: principal,
		Address: principal, Destination: principal, Shard: belfry.Shard("default", principal), State: belfry.Delivered, Subscription: "sub_1",
		Because: []belfry.Reason{{Code: belfry.NamedMember, Subscription: "sub_1"}}}
	hook := belfry.Delivery{Tenant: "default", ID: belfry.DeliveryID(id, 0, belfry.ChannelWebhook, "ep_1"), EventID: id, Channel: belfry.ChannelWebhook, Address: "ep_1",
		Destination: "ep_1", Shard: belfry.Shard("default", "ep_1"), State: belfry.Scheduled, Due: now(), Subscription: "sub_1",
		Because: []belfry.Reason{{Code: belfry.NamedEndpoint, Subscription: "sub_1"}}}
	errs, err := h.db.CommitPlans(context.WithoutCancel(h.t.Context()), []belfry.PlanPage{{Tenant: "default", EventID: id, From: "", To: "~", Last: true, Deliveries: []belfry.Delivery{item, hook}}})
	if err != nil || errs[0] != nil {
		h.t.Fatal(err, errs)
	}
	h.inbox.wake("default", principal)
	return id, item.ID
}

// feature: PEER-7 inbox with counts, read and archive.
func TestInbox(t *testing.T) {
	h := newHouse(t)
	const ada = "/v1/users/user%2F8/inbox"
	var items []string
	for range 3 {
		_, item := h.tell("user/8")
		items = append(items, item)
	}
	h.tell("user/9")
	var p api.InboxPage
	h.want(200, "GET", ada+"?limit=2", "").into(t, &p)
	if len(p.Items) != 2 || p.Unread != 3 || p.Items[0].ID != items[2] || p.Next == "" {
		t.Fatalf("%+v", p)
	}
	// The other way to write the id is the same inbox.
	h.want(200, "GET", "/v1/users/~dXNlci84/inbox?limit=2&after="+p.Next, "").into(t, &p)
	if len(p.Items) != 1 || p.Items[0].ID != items[0] {
		t.Fatalf("%+v", p)
	}
	var m api.Marked
	h.want(200, "POST", ada+"/read", `{"ids":["`+items[0]+`","dlv_unknown"]}`).into(t, &m)
	if m != (api.Marked{Changed: 1, Unread: 2}) {
		t.Errorf("%+v", m)
	}
	h.want(200, "POST", ada+"/archive", `{"ids":["`+items[1]+`"]}`).into(t, &m)
	if m != (api.Marked{Changed: 1, Unread: 1}) {
		t.Errorf("%+v", m)
	}
	p = api.InboxPage{}
	h.want(200, "GET", ada+"?archived=true", "").into(t, &p)
	if len(p.Items) != 1 || p.Items[0].ID != items[1] || !p.Items[0].Archived {
		t.Errorf("%+v", p)
	}
	h.want(200, "POST", ada+"/unarchive", `{"all":true}`)
	h.want(200, "POST", ada+"/unread", `{"all":true}`).into(t, &m)
	if m.Unread != 3 {
		t.Errorf("%+v", m)
	}
	h.want(200, "POST", ada+"/read", `{"all":true}`)
	if a := h.want(200, "GET", ada+"/counts", ""); a.body != "{\"unread\":0}\n" {
		t.Errorf("%s", a.body)
	}
	if a := h.want(200, "GET", ada+"?unread=true", ""); !strings.HasPrefix(a.body, `{"items":[],"unread":0`) {
		t.Errorf("%s", a.body)
	}
	for body, pointer := range map[string]string{`{}`: "/ids", `{"ids":["a"],"all":true}`: "/all", `{"id":["a"]}`: "/id"} {
		if q := h.want(422, "POST", ada+"/read", body).problem(t); len(q.Errors) != 1 || q.Errors[0].Pointer != pointer {
			t.Errorf("%s: %+v", body, q.Errors)
		}
	}
	// Other people's entries cannot be named here.
	h.want(200, "POST", "/v1/users/user%2F9/inbox/archive", `{"ids":["`+items[0]+`"]}`).into(t, &m)
	if m.Changed != 0 {
		t.Errorf("%+v", m)
	}
}

// sse reads a stream of server-sent events.
type sse struct {
	t    *testing.T
	resp *http.Response
	r    *bufio.Reader
}

type frame struct{ event, id, data string }

func (h *house) follow(path, key, last string) *sse {
	h.t.Helper()
	r, err := http.NewRequestWithContext(h.t.Context(), "GET", h.url+path, nil)
	if err != nil {
		h.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+key)
	if last != "" {
		r.Header.Set("Last-Event-ID", last)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { resp.Body.Close() })
	if resp.StatusCode != 200 || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream") || resp.Header.Get("Cache-Control") != "no-store" {
		h.t.Fatalf("%d %v", resp.StatusCode, resp.Header)
	}
	return &sse{h.t, resp, bufio.NewReader(resp.Body)}
}

// next gives the next frame; a comment is a frame of event ":"; false at the
// end.
func (s *sse) next() (f frame, ok bool) {
	s.t.Helper()
	for {
		line, err := s.r.ReadString('\n')
		if err != nil {
			return f, false
		}
		line = strings.TrimSuffix(line, "\n")
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case line == "":
			return f, true
		case name == "":
			f.event = ":"
		case name == "event":
			f.event = value
		case name == "id":
			f.id = value
		case name == "data":
			f.data = value
		}
	}
}

func (s *sse) want(event, in string) frame {
	s.t.Helper()
	for {
		f, ok := s.next()
		if !ok {
			s.t.Fatalf("the stream ended, want %s", event)
		}
		if f.event == ":" && event != ":" {
			continue
		}
		if f.event != event || !strings.Contains(f.data, in) {
			s.t.Fatalf("got %+v, want %s with %s", f, event, in)
		}
		return f
	}
}

// feature: PEER-7 live updates.
func TestInboxStream(t *testing.T) {
	h := newHouse(t, func(o *api.Options) { o.Heartbeat = 20 * time.Millisecond })
	const path = "/v1/users/user%2F8/inbox/stream"
	_, old := h.tell("user/8")
	s := h.follow(path, rootKey, "")
	s.want("counts", `{"unread":1}`) // what is there already is not news
	_, second := h.tell("user/8")
	f := s.want("inbox", second)
	if f.id != second {
		t.Errorf("%+v", f)
	}
	var item api.InboxItem
	if err := json.Unmarshal([]byte(f.data), &item); err != nil || item.Title == "" {
		t.Errorf("%+v, %v", item, err)
	}
	s.want("counts", `{"unread":2}`)
	h.tell("user/9") // somebody else's
	h.want(200, "POST", "/v1/users/user%2F8/inbox/read", `{"ids":["`+old+`"]}`)
	s.want("counts", `{"unread":1}`)
	s.want(":", "") // a heartbeat

	// Come back: what was missed is sent first.
	s.resp.Body.Close()
	var missed []string
	for range 3 {
		_, id := h.tell("user/8")
		missed = append(missed, id)
	}
	s = h.follow(path, rootKey, second)
	seen := map[string]bool{}
	for { // the counts come after what was missed; old is within the overlap and may come again
		f, ok := s.next()
		if !ok {
			t.Fatal("the stream ended")
		}
		if f.event == "inbox" {
			seen[f.id] = true
		}
		if f.event == "counts" {
			break
		}
	}
	for _, id := range missed {
		if !seen[id] {
			t.Errorf("%s was missed and not sent: %v", id, seen)
		}
	}

	// Draining ends it, so that a shutdown need not wait.
	h.server.Drain()
	for {
		if _, ok := s.next(); !ok {
			break
		}
	}
}

func TestStreamEndsWithItsKey(t *testing.T) {
	h := newHouse(t, func(o *api.Options) { o.Heartbeat = 20 * time.Millisecond })
	var k struct{ ID, Key string }
	h.want(201, "POST", "/v1/keys", `{"name":"widget","permissions":["read"]}`).into(t, &k)
	s := h.follow("/v1/users/user%2F8/inbox/stream", k.Key, "")
	s.want("counts", `{"unread":0}`)
	h.want(204, "DELETE", "/v1/keys/"+k.ID, "")
	for {
		if _, ok := s.next(); !ok {
			return
		}
	}
}

func TestDeliveries(t *testing.T) {
	h := newHouse(t)
	event, _ := h.tell("user/8")
	h.tell("user/8")
	id := belfry.DeliveryID(event, 0, belfry.ChannelWebhook, "ep_1")
	applied, err := h.db.RecordAttempts(t.Context(), []belfry.Attempt{{Tenant: "default", DeliveryID: id, N: 1, At: now(), Took: 1500 * time.Microsecond,
		Outcome: belfry.Outcome{Kind: belfry.OutcomeRetry, Status: 503, Detail: "try later"}, State: belfry.Retrying, Due: now().Add(time.Minute)}})
	if err != nil || !applied[0] {
		t.Fatal(applied, err)
	}
	var d api.DeliveryView
	h.want(200, "GET", "/v1/deliveries/"+id, "").into(t, &d)
	if d.State != "retrying" || d.Tries != 1 || len(d.Attempts) != 1 || d.Attempts[0].Outcome != "retry" || d.Attempts[0].Status != 503 || d.Attempts[0].TookMS != 1.5 ||
		d.Due == nil || d.Channel != "webhook" || d.Event != event || len(d.Because) != 1 || d.Because[0].Text == "" {
		t.Errorf("%+v", d)
	}
	if d.Waits == nil || d.Waits.Code != belfry.SubscriptionWaits || d.Waits.Subscription != "sub_1" || d.Waits.Text == "" {
		t.Errorf("it waits for %+v", d.Waits)
	}
	var l struct{ Items []api.DeliveryView }
	for query, want := range map[string]int{"": 2, "state=retrying": 1, "state=delivered": 0, "event=" + event: 1, "channel=webhook": 2, "recipient=ep_1": 2, "recipient=user%2F7": 0,
		"since=" + time.Now().Add(time.Hour).UTC().Format(time.RFC3339): 0} {
		h.want(200, "GET", "/v1/deliveries?"+query, "").into(t, &l)
		if len(l.Items) != want || want > 0 && l.Items[0].Waits == nil {
			t.Errorf("%s: %d deliveries, want %d", query, len(l.Items), want)
		}
	}
	h.want(422, "GET", "/v1/deliveries?state=lost", "").problem(t)
	h.want(404, "GET", "/v1/deliveries/dlv_unknown", "").problem(t)
	if a := h.want(404, "GET", "/v1/deliveries/"+id, "", "Authorization", "Bearer "+func() string {
		h.want(201, "PUT", "/v1/tenants/other", `{}`)
		return h.key("other", "admin")
	}()); strings.Contains(a.body, "ep_1") {
		t.Error(fmt.Sprint(a))
	}
}

package manage_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/manage"
	"github.com/belfryhq/belfry/internal/secret"
	"github.com/belfryhq/belfry/internal/store"
	"github.com/belfryhq/belfry/internal/store/storetest"
)

type noChannels struct{}

func (noChannels) Known(string, string) bool  { return true }
func (noChannels) Builtin() map[string]string { return nil }

type cancels struct{ ids []string }

func (c *cancels) Revoke(_ string, ids []string) []bool { return make([]bool, len(ids)) }
func (c *cancels) Cancelled(_ string, ids []string)     { c.ids = append(c.ids, ids...) }
func (c *cancels) Retried(string, string, time.Time)    {}
func (c *cancels) Ordered()                             {}
func (c *cancels) Gathered(string, time.Time)           {}

var errLost = errors.New("lost")

func person(t *testing.T, db *store.DB) (*manage.Manager, *cancels) {
	t.Helper()
	box, err := secret.New([]string{secret.MakeKey()})
	if err != nil {
		t.Fatal(err)
	}
	c := &cancels{}
	m, err := manage.New(manage.Options{Store: db, Box: box, Now: func() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }, Channels: noChannels{}, Senders: c,
		Parts: manage.Parts{All: store.PersonParts(), Edits: store.EditedParts()}, Lost: errLost})
	if err != nil {
		t.Fatal(err)
	}
	return m, c
}

var admin = manage.By{Tenant: belfry.DefaultTenant, Who: "key_1 (school)", Origin: "school"}

// seed writes what can be known of user/8, and of user/9, who is like her.
func seed(t *testing.T, db *store.DB, m *manage.Manager) (event string) {
	t.Helper()
	ctx := t.Context()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	now := time.Now().UTC().Truncate(time.Microsecond)
	yes := json.RawMessage(`{"reviewers":["user/8","user/9"]}`)
	ch := belfry.Changes{
		Tenant:  belfry.DefaultTenant,
		Objects: []belfry.Object{{ID: "course/1", Type: "course"}},
		Users: []belfry.User{
			{ID: "user/8", Name: "Ada Lovelace", Email: "Ada@Example.org", State: belfry.UserActive, Contacts: []belfry.Contact{{Kind: "email", Address: "ada@example.org", Verified: true},
				{Kind: "sms", Address: "+5511999990000", Verified: true, Keys: map[string]string{"auth": "geheim"}}, {Kind: "email", Address: "family@example.org", Verified: true}}},
			{ID: "user/9", Name: "Ben", Email: "ben@example.org", State: belfry.UserActive, Contacts: []belfry.Contact{{Kind: "email", Address: "ben@example.org", Verified: true},
				{Kind: "email", Address: "family@example.org", Verified: true}}},
		},
		Groups:      []belfry.Group{{ID: "staff", Name: "Staff", Members: []string{"user/8", "user/9"}, Origin: "school"}},
		Grants:      []belfry.GrantSet{{Object: "course/1", Origin: "school", Grants: []belfry.Grant{{Principal: "user/8", Role: "teacher"}, {Principal: "user/9", Role: "teacher"}}}},
		History:     []belfry.HistoryEntry{{Object: "course/1", Transition: "publish", Actor: "user/8", Time: now, Comment: "by Ada@example.org", Variables: yes}},
		Settings:    []belfry.UserSettings{{User: "user/8", Settings: belfry.Settings{Stop: true}}},
		Preferences: []belfry.UserPreferences{{User: "user/8", Preferences: []belfry.Preference{{Type: "core.*", Level: belfry.LevelAll}}}},
		Subscriptions: []belfry.Subscription{
			{ID: "sub_admin", Title: "Changes for user/8", Owner: "user/8", Origin: belfry.FromAdmin, State: belfry.SubscriptionActive, Filter: "event.actor != 'user/8'", Created: now,
				Recipients: []belfry.Rule{{Explicit: &belfry.ExplicitRule{Users: []string{"user/8", "user/9"}, Emails: []string{"ada@example.org", "x@example.org"}}}, {Explicit: &belfry.ExplicitRule{Users: []string{"user/8"}}}},
				Exclude:    belfry.Exclusion{Users: []string{"user/8"}, Emails: []string{"ada@example.org"}}},
			{ID: "sub_hers", Owner: "user/8", Origin: belfry.FromPerson, State: belfry.SubscriptionActive, Created: now},
			{ID: "sub_others", Owner: "user/9", Origin: belfry.FromPerson, State: belfry.SubscriptionActive, Created: now},
		},
		Members: []belfry.Member{{Subscription: "sub_admin", Principal: "user/8", Since: now}, {Subscription: "sub_admin", Principal: "user/8", Object: "course/1", Since: now}, {Subscription: "sub_admin", Principal: "user/9", Since: now}},
		Documents: []belfry.Document{{Kind: belfry.KindEndpoint, ID: "ep_1", Body: []byte(`{"id":"ep_1","url":"https://x.example","owner":"user/8","state":"active"}`)},
			{Kind: belfry.KindNotification, ID: "ntf_1", Body: []byte(`{"id":"ntf_1","from":"user/8","who":"user/8","recipients":[{"explicit":{"users":["user/8","user/9"],"emails":["ada@example.org"]}}],"body":"Write to ada@example.org"}`)}},
		Audit: []belfry.AuditEntry{{Who: "user/8", Action: "subscription.opt_out", Target: "sub_1"}, {Who: "key_1", Action: "user.put", Target: "user/8", Detail: "ada@example.org"}, {Who: "key_1", Action: "user.put", Target: "user/9"}},
	}
	_, err := db.Apply(ctx, ch)
	check(err)
	_, err = db.Apply(ctx, belfry.Changes{Tenant: belfry.DefaultTenant, OptOuts: []belfry.OptOut{{Subscription: "sub_others", Who: "user/8", Since: now}, {Subscription: "sub_others", Who: "ada@example.org", Since: now}}})
	check(err)
	e := &belfry.Event{ID: "1", Source: "/test", Type: "core.x", Time: now, Object: "course/1", Actor: "user/8", Related: []string{"user/9", "user/8"}, Data: json.RawMessage(`{"fullname":"Ada Lovelace","to":"ADA@example.org","n":8}`)}
	other := &belfry.Event{ID: "2", Source: "/test", Type: "core.x", Time: now, Object: "course/1", Actor: "user/9", Data: json.RawMessage(`{"fullname":"Ben","list":["user/80"]}`)}
	var drafts []belfry.Draft
	for _, e := range []*belfry.Event{e, other} {
		body, err := json.Marshal(e)
		check(err)
		drafts = append(drafts, belfry.Draft{Tenant: belfry.DefaultTenant, Event: e, Body: body})
	}
	receipts, err := db.AcceptEvents(ctx, drafts)
	check(err)
	event = receipts[0].EventID
	because := []belfry.Reason{{Code: belfry.NamedUser, Subscription: "sub_admin", Rule: 1, Detail: "user/8"}}
	delivery := func(principal, channel, address, destination string) belfry.Delivery {
		return belfry.Delivery{Tenant: belfry.DefaultTenant, ID: belfry.DeliveryID(event, 0, channel, address), EventID: event, Subscription: "sub_admin", Channel: channel,
			Principal: principal, Address: address, Destination: destination, Shard: belfry.Shard(belfry.DefaultTenant, destination), Due: now, Because: because}
	}
	ds := []belfry.Delivery{delivery("user/8", "email", "ada@example.org", "user/8"), delivery("user/8", "sms", "+5511999990000", "user/8"), delivery("", "email2", "ada@example.org", "ada@example.org"),
		delivery("user/9", "email", "ben@example.org", "user/9"), delivery("user/8", belfry.ChannelInbox, "user/8", "user/8"), delivery("user/9", belfry.ChannelInbox, "user/9", "user/9"), delivery("", belfry.ChannelWebhook, "ep_1", "ep_1")}
	for i := range ds {
		if ds[i].Principal == "user/9" || ds[i].Address == "ep_1" {
			ds[i].Because = because[:0]
		}
		if ds[i].Channel == belfry.ChannelInbox {
			ds[i].State = belfry.Delivered
		}
	}
	errs, err := db.CommitPlans(ctx, []belfry.PlanPage{{Tenant: belfry.DefaultTenant, EventID: event, Last: true, Deliveries: ds, Suppressions: []belfry.Suppression{
		{Principal: "user/8", Channel: "email", Address: "old@example.org", Because: because}, {Principal: "user/8", Channel: "email", Address: "ada@example.org", Because: because},
		{Principal: "user/9", Because: because[:0]}, {Address: "ada@example.org", Because: because}}}})
	check(errors.Join(append(errs, err)...))
	_, err = db.RecordAttempts(ctx, []belfry.Attempt{
		{Tenant: belfry.DefaultTenant, DeliveryID: ds[0].ID, N: 1, At: now, State: belfry.Delivered, Outcome: belfry.Outcome{Kind: belfry.OutcomeAccepted, Status: 250, Detail: "<ada@example.org> queued"}},
		{Tenant: belfry.DefaultTenant, DeliveryID: ds[2].ID, N: 1, At: now, State: belfry.Failed, Outcome: belfry.Outcome{Kind: belfry.OutcomeRefused, Status: 550, Detail: "<ada@example.org> unknown"}},
	})
	check(err)
	_, err = m.ReplayEvents(ctx, admin, belfry.EventSelect{Event: event}, belfry.Replay{Recipient: "user/8"})
	check(err)
	jobs, _, err := db.Jobs(ctx, belfry.DefaultTenant, store.JobFilter{Limit: 10})
	check(err)
	_, err = m.CancelJob(ctx, admin, jobs[0].ID)
	check(err)
	return event
}

// erase does a job of erasing, every step twice over by processes that die.
func erase(t *testing.T, db *store.DB, m *manage.Manager, id string) belfry.Job {
	t.Helper()
	ctx := t.Context()
	order, err := m.EraseUser(ctx, admin, id)
	if err != nil {
		t.Fatal(err)
	}
	for {
		var steps []belfry.JobStep
		for range 2 { // the first one dies after its step, before it is recorded, where the step does not record itself
			j, ok, err := db.ClaimJob(ctx, belfry.DefaultTenant, order.ID, "tests", 0)
			if err != nil || !ok {
				t.Fatalf("%v, %v", ok, err)
			}
			step, err := m.EraseStep(ctx, &j)
			if err != nil {
				t.Fatalf("at %s: %v", j.Cursor, err)
			}
			steps = append(steps, step)
			if step.Recorded {
				break
			}
			if len(steps) == 2 {
				if ok, err := db.StepJob(ctx, &j, step); err != nil || !ok {
					t.Fatalf("%v, %v", ok, err)
				}
			}
		}
		if last := steps[len(steps)-1]; !last.State.Open() {
			j, _, err := db.Job(ctx, belfry.DefaultTenant, order.ID)
			if err != nil {
				t.Fatal(err)
			}
			return j
		}
	}
}

func engines(t *testing.T, test func(t *testing.T, place string, db *store.DB)) {
	for name, place := range map[string]func(testing.TB) string{"SQLite": storetest.SQLitePlace, "PostgreSQL": storetest.PostgresPlace} {
		t.Run(name, func(t *testing.T) {
			url := place(t)
			db := storetest.Open(t, url)
			for _, p := range belfry.Parts() {
				if _, err := db.MakePartitions(t.Context(), p, time.Now(), 7*24*time.Hour); err != nil {
					t.Fatal(err)
				}
			}
			test(t, url, db)
		})
	}
}

// names are the rows that speak of her, but for the log of changes, which is cut
// off after a week, and what is Ben's as well.
func names(rows []string) (out []string) {
	for _, r := range rows {
		low := strings.NewReplacer("user/80", "", `user\/80`, "").Replace(strings.ToLower(r))
		if !strings.HasPrefix(r, "changes:") && (strings.Contains(low, "user/8") || strings.Contains(low, "ada@") || strings.Contains(low, "lovelace") || strings.Contains(low, "+55119") || strings.Contains(low, "old@")) {
			out = append(out, r)
		}
	}
	return out
}

// feature: NEW-15 nothing of her is left in any table, whatever the process
// dies at; what is others' stays; she may come back and starts anew
func TestErase(t *testing.T) {
	engines(t, func(t *testing.T, place string, db *store.DB) {
		m, cancelled := person(t, db)
		event := seed(t, db, m)
		before := storetest.Dump(t, place)
		if n := len(names(before)); n < 25 {
			t.Fatalf("only %d rows speak of her before: what is this test worth?", n)
		}
		j := erase(t, db, m, "user/8")
		after := storetest.Dump(t, place)
		for _, r := range names(after) {
			t.Errorf("left: %s", r)
		}
		var counts map[string]int
		if err := json.Unmarshal(j.Result, &counts); err != nil || counts["deliveries"] != 2 || counts["mails"] != 1 || counts["inbox"] != 1 || counts["suppressions"] != 3 || counts["events"] != 1 {
			t.Errorf("%s, %v", j.Result, err)
		}
		if j.State != belfry.JobDone || j.Done != j.Total || !strings.HasPrefix(string(j.Params), `{"id":"erased_`) {
			t.Errorf("%+v", j)
		}
		ctx := t.Context()
		// What was on its way is cancelled, and those who hold it are told.
		sms := belfry.DeliveryID(event, 0, "sms", "+5511999990000")
		d, _, err := db.Delivery(ctx, belfry.DefaultTenant, sms)
		if err != nil || d.State != belfry.Cancelled || d.Because[len(d.Because)-1].Code != belfry.Erased || !strings.HasPrefix(d.Principal, "erased_") || !slices.Contains(cancelled.ids, sms) {
			t.Errorf("%+v, %v, %v", d, err, cancelled.ids)
		}
		// The reasons are kept, and the same tag stands for her everywhere.
		trace, err := db.Trace(ctx, belfry.DefaultTenant, event, d.Principal, store.TracePage{})
		if err != nil || len(trace.Deliveries) != 2 || len(trace.Suppressions) != 2 || trace.Suppressions[0].Because[0].Code != belfry.NamedUser || trace.Suppressions[0].Because[0].Detail != d.Principal {
			t.Errorf("%+v, %v", trace, err)
		}
		mail, _, err := db.Delivery(ctx, belfry.DefaultTenant, belfry.DeliveryID(event, 0, "email", "ada@example.org"))
		if err != nil || mail.State != belfry.Delivered {
			t.Errorf("%+v, %v", mail, err)
		}
		if as, err := db.Attempts(ctx, belfry.DefaultTenant, mail.ID); err != nil || len(as) != 1 || as[0].Outcome.Status != 250 || as[0].Outcome.Detail != "" {
			t.Errorf("%+v, %v", as, err)
		}
		// Others keep what is theirs.
		if got, _, _, err := db.Inbox(ctx, belfry.DefaultTenant, "user/9", store.InboxFilter{}); err != nil || len(got) != 1 {
			t.Errorf("%v, %v", got, err)
		}
		people, err := db.Persons(ctx, belfry.DefaultTenant, []string{"user/8", "user/9"})
		if err != nil || people["user/8"] != nil || people["user/9"] == nil || len(people["user/9"].User.Contacts) != 2 {
			t.Errorf("%+v, %v", people, err)
		}
		sub, _, err := db.Subscription(ctx, belfry.DefaultTenant, "sub_admin")
		if err != nil || sub.State != belfry.SubscriptionActive || len(sub.Recipients) != 1 || !slices.Equal(sub.Recipients[0].Explicit.Users, []string{"user/9"}) || !slices.Equal(sub.Recipients[0].Explicit.Emails, []string{"x@example.org"}) {
			t.Errorf("%+v, %v", sub, err)
		}
		if hers, _, err := db.Subscription(ctx, belfry.DefaultTenant, "sub_hers"); err != nil || hers.State != belfry.SubscriptionEnded {
			t.Errorf("%+v, %v", hers, err)
		}
		// Again: there is nothing. And she may come back.
		if again := erase(t, db, m, "user/8"); strings.ContainsAny(string(again.Result), "123456789") && !strings.Contains(string(again.Result), `"audit":1`) {
			t.Errorf("the second time something was found: %s", again.Result)
		}
		if _, err := db.Apply(ctx, belfry.Changes{Tenant: belfry.DefaultTenant, Users: []belfry.User{{ID: "user/8", Name: "Ada", Email: "ada@example.org"}}}); err != nil {
			t.Fatal(err)
		}
		people, err = db.Persons(ctx, belfry.DefaultTenant, []string{"user/8"})
		if err != nil || people["user/8"] == nil || people["user/8"].Settings.Stop || len(people["user/8"].Preferences) != 0 {
			t.Errorf("%+v, %v", people["user/8"], err)
		}
		stats, err := db.Stats(ctx)
		if err != nil || stats.Tenants[belfry.DefaultTenant].OpenDeliveries != 2 { // Ben's mail and the endpoint's
			t.Errorf("%+v, %v", stats, err)
		}
	})
}

// feature: NEW-15 a bare address, too
func TestEraseAddress(t *testing.T) {
	engines(t, func(t *testing.T, place string, db *store.DB) {
		m, _ := person(t, db)
		seed(t, db, m)
		j := erase(t, db, m, "x@example.org")
		for _, r := range storetest.Dump(t, place) {
			if strings.Contains(r, "x@example.org") && !strings.HasPrefix(r, "changes:") {
				t.Errorf("left: %s", r)
			}
		}
		if j.State != belfry.JobDone {
			t.Errorf("%+v", j)
		}
	})
}

// feature: NEW-15 the export holds what is erased afterwards, and no more
func TestExport(t *testing.T) {
	engines(t, func(t *testing.T, _ string, db *store.DB) {
		m, _ := person(t, db)
		seed(t, db, m)
		parts := map[string][]string{}
		put := func(part string, value any) error {
			text, err := json.Marshal(value)
			parts[part] = append(parts[part], string(text))
			return err
		}
		if err := m.Export(t.Context(), admin, "user/8", put); err != nil {
			t.Fatal(err)
		}
		for part, want := range map[string]int{"user": 1, "settings": 1, "preferences": 1, "membership": 2, "opt_out": 2, "groups": 1, "grants": 1, "subscriptions": 2, "documents": 2, "deliveries": 2,
			"mails": 1, "attempt": 2, "inbox": 1, "suppressions": 3, "history": 1, "events": 1, "jobs": 1} {
			if len(parts[part]) != want {
				t.Errorf("%s: %d of %d: %v", part, len(parts[part]), want, parts[part])
			}
		}
		if len(parts["audit"]) < 4 {
			t.Errorf("audit: %v", parts["audit"])
		}
		if strings.Contains(parts["user"][0], "geheim") || !strings.Contains(parts["user"][0], "Lovelace") {
			t.Errorf("%s", parts["user"])
		}
		if d := parts["deliveries"][0] + parts["deliveries"][1]; !strings.Contains(d, `"state":"delivered"`) || !strings.Contains(d, `"address":"+5511999990000"`) || !strings.Contains(d, `"because":[{"code":"named_user"`) {
			t.Errorf("%s", d)
		}
		for part, rows := range parts {
			for _, r := range rows {
				if strings.Contains(r, `"principal":"user/9"`) || strings.Contains(r, "ben@example.org") {
					t.Errorf("%s shows somebody else: %s", part, r)
				}
			}
		}
		stop := errors.New("the reader is gone")
		if err := m.Export(context.Background(), admin, "user/8", func(string, any) error { return stop }); !errors.Is(err, stop) {
			t.Errorf("%v", err)
		}
	})
}

// feature: NEW-15 also where many are told for the same reasons, which stand
// apart from the rows that name them
func TestEraseFromSharedReasons(t *testing.T) {
	engines(t, func(t *testing.T, place string, db *store.DB) {
		m, _ := person(t, db)
		seed(t, db, m)
		e := &belfry.Event{ID: "3", Source: "/test", Type: "core.x", Time: time.Now(), Object: "course/1"}
		body, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		receipts, err := db.AcceptEvents(t.Context(), []belfry.Draft{{Tenant: belfry.DefaultTenant, Event: e, Body: body}})
		if err != nil {
			t.Fatal(err)
		}
		event := receipts[0].EventID
		var because []belfry.Reason
		for i := range 100 {
			because = append(because, belfry.Reason{Code: belfry.NamedUser, Subscription: fmt.Sprint("sub_of_somebody_", i), Rule: 1, Detail: "user/8"})
		}
		page := belfry.PlanPage{Tenant: belfry.DefaultTenant, EventID: event, Last: true}
		for _, who := range []string{"user/9", "user/10"} {
			page.Deliveries = append(page.Deliveries, belfry.Delivery{Tenant: belfry.DefaultTenant, ID: belfry.DeliveryID(event, 0, "email", who), EventID: event, Subscription: "sub_admin",
				Channel: "email", Principal: who, Address: who + "@example.org", Destination: who, Shard: 1, Due: time.Now(), Because: because})
		}
		if errs, err := db.CommitPlans(t.Context(), []belfry.PlanPage{page}); err != nil || errs[0] != nil {
			t.Fatal(errs, err)
		}
		exported := 0
		if err := m.Export(t.Context(), admin, "user/8", func(part string, value any) error {
			if part == "reasons" {
				exported++
			}
			return nil
		}); err != nil || exported != 1 {
			t.Errorf("%d lists exported, %v", exported, err)
		}
		erase(t, db, m, "user/8")
		for _, who := range []string{"user/9", "user/10"} {
			d, _, err := db.Delivery(t.Context(), belfry.DefaultTenant, belfry.DeliveryID(event, 0, "email", who))
			if err != nil || len(d.Because) != 100 || !strings.HasPrefix(d.Because[99].Detail, "erased_") {
				t.Errorf("%s: %d reasons, the last %+v, %v", who, len(d.Because), d.Because[len(d.Because)-1:], err)
			}
		}
		for _, row := range storetest.Dump(t, place) {
			if table, rest, _ := strings.Cut(row, ":"); table == "reasons" && !strings.Contains(rest, "erased_") {
				t.Errorf("left: %s", row)
			}
		}
	})
}

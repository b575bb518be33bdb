package manage

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.uber.org/goleak"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/secret"
	"github.com/belfryhq/belfry/internal/store"
	"github.com/belfryhq/belfry/internal/store/storetest"
	"github.com/belfryhq/belfry/internal/testdb"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(testdb.Wrap(m)) }

type channelNames []string

func (c channelNames) Known(_, name string) bool { return slices.Contains(c, name) }

func (c channelNames) Builtin() map[string]string {
	kinds := map[string]string{}
	for _, name := range c {
		kinds[name] = name
	}
	return kinds
}

// listed are channels with whose they are.
func listed(channels []ConfiguredView) []string {
	list := make([]string, len(channels))
	for i, c := range channels {
		list[i] = c.Name + map[bool]string{true: " builtin", false: " own"}[c.Builtin]
	}
	return list
}

// mailKinds knows one kind with one secret.
type mailKinds struct{}

func (mailKinds) Kinds() []Kind {
	return []Kind{{Name: "email", Title: "E-mail", Contact: "email", Settings: []Setting{{Name: "url", Type: "url", Secret: true}, {Name: "from", Type: "email"}}}}
}

func (mailKinds) Check(_ string, settings map[string]string) error {
	if settings["url"] == "" {
		return belfry.Faults([]belfry.Field{{Pointer: "/settings/url", Message: "is required"}})
	}
	return nil
}

type house struct {
	*Manager
	t   testing.TB
	db  *store.DB
	box *secret.Box
	now time.Time
}

var by = By{Tenant: belfry.DefaultTenant, Who: "key_1 (school)", Origin: "school"}

func open(t testing.TB) *house {
	t.Helper()
	h := &house{t: t, now: time.Date(2026, 11, 21, 8, 0, 0, 0, time.UTC)}
	var err error
	h.db, err = store.Open(context.Background(), store.Options{URL: storetest.SQLitePlace(t), Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return h.now }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.db.Close(); err != nil {
			t.Error(err)
		}
	})
	if h.box, err = secret.New([]string{secret.MakeKey()}); err != nil {
		t.Fatal(err)
	}
	h.Manager, err = New(Options{Store: h.db, Box: h.box, Now: func() time.Time { return h.now }, Channels: channelNames{"inbox", "email", "webhook"}, ChannelKinds: mailKinds{}, SourceKinds: mailKinds{}})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// school fills a small tree with people.
func (h *house) school() *house {
	h.ok(h.PutObjects(h.ctx(), by, []belfry.Object{
		{ID: "forum/3", Type: "forum", Parent: "course/41"}, // before its parent
		{ID: "course/41", Type: "course", Parent: "category/2", Title: "CPR"},
		{ID: "category/2", Type: "category", Parent: "root"},
		{ID: "course/42", Type: "course", Parent: "category/2"},
	}))
	h.ok(h.PutUsers(h.ctx(), by, []belfry.User{{ID: "user/8", Name: "Ada", Email: "Ada@Example.org"}, {ID: "user/9"}, {ID: "user/10", State: belfry.UserDeleted}}))
	h.ok(h.PutGroups(h.ctx(), by, []belfry.Group{{ID: "staff", Name: "Staff", Members: []string{"user/8", "tutors"}}, {ID: "tutors", Members: []string{"user/9"}}}))
	return h
}

func (h *house) ctx() context.Context { return context.Background() }

func (h *house) ok(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

// refused wants an error of a kind that speaks of these places, each written
// "pointer: words that must be in the message".
func (h *house) refused(err error, kind belfry.Kind, places ...string) {
	h.t.Helper()
	if err == nil {
		h.t.Error("not refused")
		return
	}
	if belfry.KindOf(err) != kind {
		h.t.Errorf("%v: kind %d, want %d", err, belfry.KindOf(err), kind)
	}
	var e *belfry.Error
	if !errors.As(err, &e) {
		h.t.Errorf("%T", err)
		return
	}
	if len(places) > 0 && len(e.Fields) != len(places) && strings.HasPrefix(places[0], "/") {
		h.t.Errorf("%d faults, want %d: %+v", len(e.Fields), len(places), e.Fields)
	}
	for _, p := range places {
		pointer, words, _ := strings.Cut(p, ": ")
		if !strings.HasPrefix(p, "/") {
			if !strings.Contains(e.Msg, p) {
				h.t.Errorf("%q does not say %q", e.Msg, p)
			}
			continue
		}
		if !slices.ContainsFunc(e.Fields, func(f belfry.Field) bool { return f.Pointer == pointer && strings.Contains(f.Message, words) }) {
			h.t.Errorf("no fault %q in %+v", p, e.Fields)
		}
	}
}

func version(v int64) Expect { return &v }

func TestObjects(t *testing.T) {
	h := open(t)
	o, v, created, err := h.PutObject(h.ctx(), by, belfry.Object{ID: "course/41", Type: "course", Title: "CPR", Parent: "root", Implied: true, Origin: "someone", Blocks: []string{"*"}}, nil)
	h.ok(err)
	if !created || v == 0 || o.Parent != "" || o.Implied || o.Origin != "school" || o.Title != "CPR" {
		t.Errorf("%+v %d %v", o, v, created)
	}
	_, v2, created, err := h.PutObject(h.ctx(), by, belfry.Object{ID: "course/41", Type: "course"}, &v)
	h.ok(err)
	if created || v2 <= v {
		t.Errorf("version %d after %d, created %v", v2, v, created)
	}
	_, _, _, err = h.PutObject(h.ctx(), by, belfry.Object{ID: "course/41", Type: "course"}, &v)
	h.refused(err, belfry.Stale)
	_, _, _, err = h.PutObject(h.ctx(), by, belfry.Object{ID: "course/41", Type: "course"}, version(0))
	h.refused(err, belfry.Stale)

	_, _, _, err = h.PutObject(h.ctx(), by, belfry.Object{ID: "root", URL: "javascript:x", Attributes: json.RawMessage(`[1]`), Blocks: []string{""}, Title: "a\nb"}, nil)
	h.refused(err, belfry.Invalid, "/id: root", "/type: is required", "/url: https://", "/attributes: object", "/blocks/0: required", "/title: control")

	h.ok(h.PutObjects(h.ctx(), by, []belfry.Object{{ID: "forum/3", Type: "forum", Parent: "course/41"}}))
	h.ok(h.DeleteObject(h.ctx(), by, "course/41", nil))
	_, _, err = h.Object(h.ctx(), by.Tenant, "forum/3")
	h.refused(err, belfry.NotFound, "forum/3")
	h.refused(h.DeleteObject(h.ctx(), by, "course/41", nil), belfry.NotFound)
	_, _, _, err = h.PutObject(h.ctx(), by, belfry.Object{ID: "forum/4", Type: "forum", Parent: "course/41"}, nil)
	h.refused(err, belfry.Invalid, "/parent: course/41")
	_, _, err = h.Object(h.ctx(), "other", "course/41")
	h.refused(err, belfry.NotFound)
}

func TestTreeIsChecked(t *testing.T) {
	h := open(t).school()
	err := h.PutObjects(h.ctx(), by, []belfry.Object{{ID: "a", Type: "x", Parent: "nowhere"}, {ID: "b", Type: "x", Parent: "a"}, {ID: "b", Type: "x"}})
	h.refused(err, belfry.Invalid, "/2/id: twice")
	err = h.PutObjects(h.ctx(), by, []belfry.Object{{ID: "a", Type: "x", Parent: "nowhere"}, {ID: "b", Type: "x", Parent: "a"}})
	h.refused(err, belfry.Invalid, "/0/parent: nowhere")
	// In the batch alone.
	err = h.PutObjects(h.ctx(), by, []belfry.Object{{ID: "z", Type: "x"}, {ID: "a", Type: "x", Parent: "c"}, {ID: "b", Type: "x", Parent: "a"}, {ID: "c", Type: "x", Parent: "b"}})
	h.refused(err, belfry.Invalid, "/1/parent: a is in c is in b is in a")
	// With what is stored.
	_, _, _, err = h.PutObject(h.ctx(), by, belfry.Object{ID: "category/2", Type: "category", Parent: "forum/3"}, nil)
	h.refused(err, belfry.Invalid, "/parent: category/2 is in forum/3 is in course/41 is in category/2")
	_, _, _, err = h.PutObject(h.ctx(), by, belfry.Object{ID: "category/2", Type: "category", Parent: "category/2"}, nil)
	h.refused(err, belfry.Invalid, "/parent: category/2 is in category/2")
	// A move that would be one alone is none when the batch moves the other too.
	h.ok(h.PutObjects(h.ctx(), by, []belfry.Object{{ID: "category/2", Type: "category", Parent: "course/41"}, {ID: "course/41", Type: "course"}}))

	var deep []belfry.Object
	for i := range maxLevels + 1 {
		o := belfry.Object{ID: fmt.Sprint("l", i), Type: "x"}
		if i > 0 {
			o.Parent = fmt.Sprint("l", i-1)
		}
		deep = append(deep, o)
	}
	h.refused(h.PutObjects(h.ctx(), by, deep), belfry.Invalid, "/64/parent: more than 64 levels")
	h.ok(h.PutObjects(h.ctx(), by, deep[:maxLevels]))
	h.refused(h.PutObjects(h.ctx(), by, make([]belfry.Object, MaxBatch+1)), belfry.Invalid, "at most 10000")
}

func TestGrantsAndHistory(t *testing.T) {
	h := open(t).school()
	grants := func(list ...belfry.Grant) []belfry.GrantSet {
		return []belfry.GrantSet{{Object: "course/41", Grants: list}}
	}
	h.ok(h.PutGrants(h.ctx(), by, grants(belfry.Grant{Principal: "user/8", Role: "teacher"}, belfry.Grant{Principal: "staff", Role: "viewer"}, belfry.Grant{Principal: "authenticated", Role: "guest"})))
	other := by
	other.Origin = "moodle/x"
	h.ok(h.PutGrants(h.ctx(), other, grants(belfry.Grant{Principal: "user/9", Role: "student"})))
	h.ok(h.PutGrants(h.ctx(), by, grants(belfry.Grant{Principal: "user/8", Role: "teacher"})))
	got, err := h.Grants(h.ctx(), by.Tenant, "course/41")
	h.ok(err)
	var words []string
	for _, g := range got {
		words = append(words, g.Principal+" "+g.Role+" "+g.Origin)
	}
	slices.Sort(words)
	if d := cmp.Diff([]string{"user/8 teacher school", "user/9 student moodle/x"}, words); d != "" {
		t.Error(d)
	}
	later := h.now.Add(time.Hour)
	h.refused(h.PutGrants(h.ctx(), by, grants(belfry.Grant{Principal: "user/7", Role: "x"}, belfry.Grant{Principal: "user/8", From: &later, Until: &h.now}, belfry.Grant{Principal: "user/10", Role: "x"})),
		belfry.Invalid, "/0/principal: user/7", "/1/role: required", "/1/until: after", "/2/principal: user/10")
	h.refused(h.PutGrants(h.ctx(), by, []belfry.GrantSet{{Object: "nowhere"}}), belfry.NotFound)
	h.refused(h.PutGrants(h.ctx(), by, []belfry.GrantSet{{Object: "course/41"}, {Object: "nowhere", Grants: []belfry.Grant{{Principal: "x", Role: "y"}}}}), belfry.Invalid, "/1/object: nowhere", "/1/grants/0/principal: x")
	h.ok(h.PutGrants(h.ctx(), by, []belfry.GrantSet{{Object: belfry.RootObject, Grants: []belfry.Grant{{Principal: "user/8", Role: "admin"}}}}))

	h.ok(h.AddHistory(h.ctx(), by, []belfry.HistoryEntry{{Object: "course/41", Transition: "publish", Actor: "user/8", Variables: json.RawMessage(`{"a":1}`)}}))
	entries, _, err := h.History(h.ctx(), by.Tenant, "course/41", "", 10)
	h.ok(err)
	if len(entries) != 1 || entries[0].Transition != "publish" || !entries[0].Time.Equal(h.now) {
		t.Errorf("%+v", entries)
	}
	h.refused(h.AddHistory(h.ctx(), by, []belfry.HistoryEntry{{Object: "nowhere"}, {Object: "course/41", Transition: "x", Variables: json.RawMessage(`1`)}}),
		belfry.Invalid, "/0/object: nowhere", "/0/transition: required", "/1/variables: object")
}

func TestUsers(t *testing.T) {
	h := open(t).school()
	u, v, created, err := h.PutUser(h.ctx(), by, belfry.User{ID: "user/20", Name: "Bo", Email: "bo@example.org", Locale: "pt-BR", TimeZone: "America/Sao_Paulo",
		Contacts: []belfry.Contact{{Kind: "sms", Address: "+5511999990000", Verified: true, Dead: "claimed", Origin: "claimed"}}}, nil)
	h.ok(err)
	if !created || v == 0 || u.State != belfry.UserActive || len(u.Contacts) != 2 || u.Contacts[0].Origin != "school" || u.Contacts[0].Dead != "" {
		t.Errorf("%+v", u)
	}
	// Contacts of another origin stay; absent ones are untouched.
	other := by
	other.Origin = "hr"
	_, _, _, err = h.PutUser(h.ctx(), other, belfry.User{ID: "user/20", Contacts: []belfry.Contact{{Kind: "sms", Address: "+1"}}}, nil)
	h.ok(err)
	u, _, created, err = h.PutUser(h.ctx(), by, belfry.User{ID: "user/20"}, nil)
	h.ok(err)
	if created || !slices.ContainsFunc(u.Contacts, func(c belfry.Contact) bool { return c.Address == "+1" }) || !slices.ContainsFunc(u.Contacts, func(c belfry.Contact) bool { return c.Address == "+5511999990000" }) {
		t.Errorf("%+v", u.Contacts)
	}
	_, _, _, err = h.PutUser(h.ctx(), by, belfry.User{ID: "authenticated", Email: "Bo <bo@example.org>", Locale: "p", TimeZone: "Mars/Olympus", State: "actve",
		Attributes: json.RawMessage(`"x"`), Contacts: []belfry.Contact{{Kind: "email", Address: "nobody"}, {Kind: "", Address: "x", Priority: -1}, {Kind: "sms", Address: "+1"}, {Kind: "sms", Address: "+1"}}}, nil)
	h.refused(err, belfry.Invalid, "/id: reserved", "/email: e-mail", "/locale: BCP 47", "/time_zone: IANA", `/state: did you mean "active"`, "/attributes: object",
		"/contacts/0/address: e-mail", "/contacts/1/kind: kind", "/contacts/1/priority: from 1", "/contacts/3/address: twice")
	h.refused(h.PutUsers(h.ctx(), by, []belfry.User{{ID: "u"}, {ID: "staff"}}), belfry.Conflict, "/1/id: group")
	h.refused(h.PutUsers(h.ctx(), by, []belfry.User{{ID: "u\x00"}, {ID: ""}, {ID: "\xff"}}), belfry.Invalid, "/0/id: control", "/1/id: required", "/2/id: UTF-8")

	h.ok(h.DeleteUser(h.ctx(), by, "user/20", nil))
	_, _, err = h.User(h.ctx(), by.Tenant, "user/20")
	h.refused(err, belfry.NotFound)
	h.refused(h.DeleteUser(h.ctx(), by, "user/20", nil), belfry.NotFound)
	_, _, created, err = h.PutUser(h.ctx(), by, belfry.User{ID: "user/20"}, nil)
	h.ok(err)
	if !created {
		t.Error("a user who was deleted and comes again is not new")
	}
}

func TestGroups(t *testing.T) {
	h := open(t).school()
	g, _, err := h.Group(h.ctx(), by.Tenant, "staff")
	h.ok(err)
	if d := cmp.Diff([]string{"tutors", "user/8"}, g.Members); d != "" {
		t.Error(d)
	}
	_, _, _, err = h.PutGroup(h.ctx(), by, belfry.Group{ID: "tutors", Members: []string{"user/9", "staff"}}, nil)
	h.refused(err, belfry.Invalid, "/members: tutors holds staff holds tutors")
	_, _, _, err = h.PutGroup(h.ctx(), by, belfry.Group{ID: "staff", Members: []string{"staff"}}, nil)
	h.refused(err, belfry.Invalid, "/members: staff holds staff")
	h.refused(h.PutGroups(h.ctx(), by, []belfry.Group{{ID: "a", Members: []string{"b"}}, {ID: "b", Members: []string{"c"}}, {ID: "c", Members: []string{"a"}}}), belfry.Invalid, "/0/members: a holds b holds c holds a")
	h.refused(h.PutGroups(h.ctx(), by, []belfry.Group{{ID: "a", Members: []string{"user/99", "user/10", "anyone", ""}}, {ID: "user/8"}, {ID: "anyone", Address: "x"}}), belfry.Invalid,
		"/0/members/2: stands for many", "/0/members/3: required", "/2/id: reserved", "/2/address: e-mail")
	h.refused(h.PutGroups(h.ctx(), by, []belfry.Group{{ID: "a", Members: []string{"user/99", "user/10"}}}), belfry.Invalid, "/0/members/0: user/99", "/0/members/1: user/10")
	h.refused(h.PutGroups(h.ctx(), by, []belfry.Group{{ID: "a"}, {ID: "user/8"}}), belfry.Conflict, "/1/id: a user")
	// What was a cycle with the old members is none when the same edit ends them.
	h.ok(h.PutGroups(h.ctx(), by, []belfry.Group{{ID: "staff", Members: []string{}}, {ID: "tutors", Members: []string{"staff"}}}))
	// A group whose members are untouched still holds them.
	h.refused(h.PutGroups(h.ctx(), by, []belfry.Group{{ID: "staff", Members: []string{"tutors"}}, {ID: "tutors"}}), belfry.Invalid, "/0/members: staff holds tutors holds staff")
	h.ok(h.DeleteGroup(h.ctx(), by, "tutors", nil))
	_, _, err = h.Group(h.ctx(), by.Tenant, "tutors")
	h.refused(err, belfry.NotFound)
}

func TestPreferencesAndSettings(t *testing.T) {
	h := open(t).school()
	until := h.now.Add(time.Hour)
	want := []belfry.Preference{{Type: "core.*", Object: "course/41", Level: belfry.LevelRelated, Channels: []string{"email"}, MuteUntil: &until}, {Level: belfry.LevelNone}}
	_, err := h.PutPreferences(h.ctx(), by, "user/8", want)
	h.ok(err)
	got, err := h.Preferences(h.ctx(), by.Tenant, "user/8")
	h.ok(err)
	want[0].MutedBy = by.Who
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	_, err = h.PutPreferences(h.ctx(), by, "user/8", []belfry.Preference{{Type: "a*b", Object: "nowhere", Level: "some", Channels: []string{"pigeon", "webhook"}}, {}, {}})
	h.refused(err, belfry.Invalid, "/0/type: at its end", "/0/object: nowhere", "/0/level: some", "/0/channels/0: pigeon", "/0/channels/1: endpoint", "/2: again")
	night := []belfry.Window{{Days: []string{"mon"}, From: "22:00", To: "07:00"}}
	_, err = h.PutPreferences(h.ctx(), by, "user/8", []belfry.Preference{
		{Category: "Marks", Type: "core.*"}, {Category: "Marks", Mutes: []belfry.Window{{Days: []string{"funday"}, From: "7", To: "08:00"}}, Remind: "1y"},
		{Object: "course/41", Remind: "1h", Because: "no reason", Frequency: &belfry.Frequency{Every: "yearly"}, Fallback: []string{"pigeon"}}})
	h.refused(err, belfry.Invalid, "/0/category: without a type", "/1/mutes/0/days/0: funday", "/1/mutes/0/from: 7", "/1/remind: such as", "/2/remind: with a mute", "/2/because: muted", "/2/frequency/every: yearly", "/2/fallback/0: pigeon")
	// feature: PEER-13 whoever set a mute first is named while it stays the same
	mute := []belfry.Preference{{Type: "core.*", Object: "course/41", MuteUntil: &until}, {Category: "Marks", Mutes: night, Remind: "1h", Because: "asleep"}}
	other := By{Tenant: by.Tenant, Who: "another"}
	got, err = h.PutPreferences(h.ctx(), other, "user/8", mute)
	h.ok(err)
	if got[0].MutedBy != by.Who || got[1].MutedBy != other.Who {
		t.Errorf("muted by %q and %q", got[0].MutedBy, got[1].MutedBy)
	}
	_, err = h.PutPreferences(h.ctx(), by, "user/99", nil)
	h.refused(err, belfry.NotFound)
	_, err = h.PutSettings(h.ctx(), by, "user/8", belfry.Settings{Stop: true})
	h.ok(err)
	if s, err := h.Settings(h.ctx(), by.Tenant, "user/8"); err != nil || !s.Stop {
		t.Errorf("%+v %v", s, err)
	}
	_, err = h.PutSettings(h.ctx(), by, "user/99", belfry.Settings{})
	h.refused(err, belfry.NotFound)
}

// feature: CPS-8, CPS-11
func TestSubscriptionLife(t *testing.T) {
	h := open(t).school()
	e, _, err := h.CreateEndpoint(h.ctx(), by, belfry.Endpoint{URL: "https://example.org/hook"})
	h.ok(err)
	draft := belfry.Subscription{
		ID: "ignored", State: "ended", Title: "Course changes to its teachers",
		Scope: belfry.Scope{Object: "course/41"}, Types: []string{"core.course_*"}, Filter: `event.data.shortname == 'CPR'`,
		Recipients: []belfry.Rule{
			{Explicit: &belfry.ExplicitRule{Users: []string{"user/8"}, Groups: []string{"staff"}, Emails: []string{"x@example.org"}}},
			{Role: &belfry.RoleRule{Roles: []string{"editingteacher"}}},
		},
		Exclude: belfry.Exclusion{Users: []string{"user/9"}},
		Notify:  []belfry.Notify{{Channels: []string{"inbox", "email"}}, {Endpoint: e.ID}},
		Owner:   "user/8",
	}
	h.ok(h.PutGrants(h.ctx(), by, []belfry.GrantSet{{Object: "course/41", Grants: []belfry.Grant{{Principal: "user/8", Role: "editingteacher"}}}}))
	s, err := h.CreateSubscription(h.ctx(), by, draft)
	h.ok(err)
	if !strings.HasPrefix(s.ID, "sub_") || s.State != belfry.SubscriptionActive || s.Version == 0 || s.Origin != "admin" || !s.Created.Equal(h.now) {
		t.Errorf("%+v", s)
	}
	want := `When core.course_* happens in CPR (course/41) or below, and shortname is "CPR": tell Ada, group Staff and x@example.org, whoever is editingteacher there and those who joined, by inbox and email; call endpoint ` + e.ID + `; but not user/9`
	if s.Readable != want {
		t.Errorf("\n got %s\nwant %s", s.Readable, want)
	}
	if len(s.Warnings) > 0 {
		t.Errorf("warnings %q", s.Warnings)
	}
	got, err := h.Subscription(h.ctx(), by.Tenant, s.ID)
	h.ok(err)
	if d := cmp.Diff(s, got, cmpopts.EquateEmpty(), cmpopts.IgnoreUnexported(Stored{})); d != "" {
		t.Error(d)
	}

	next := draft
	next.ID, next.State, next.Title = s.ID, "", "Renamed"
	p, err := h.PutSubscription(h.ctx(), by, next, &s.Version)
	h.ok(err)
	if p.Title != "Renamed" || p.Version <= s.Version || p.Created != s.Created || p.Origin != "admin" {
		t.Errorf("%+v", p)
	}
	_, err = h.PutSubscription(h.ctx(), by, next, &s.Version)
	h.refused(err, belfry.Stale)
	next.State = belfry.SubscriptionPaused
	_, err = h.PutSubscription(h.ctx(), by, next, nil)
	h.refused(err, belfry.Invalid, "/state: pause")
	next.ID = "sub_unknown"
	_, err = h.PutSubscription(h.ctx(), by, next, nil)
	h.refused(err, belfry.NotFound)

	paused, err := h.PauseSubscription(h.ctx(), by, s.ID, "")
	h.ok(err)
	if paused.State != belfry.SubscriptionPaused || paused.Because != "paused by key_1 (school)" {
		t.Errorf("%+v", paused)
	}
	active, err := h.ResumeSubscription(h.ctx(), by, s.ID)
	h.ok(err)
	if active.State != belfry.SubscriptionActive || active.Because != "" {
		t.Errorf("%+v", active)
	}
	h.refused(h.DeleteSubscription(h.ctx(), by, s.ID, &s.Version), belfry.Stale)
	h.ok(h.DeleteSubscription(h.ctx(), by, s.ID, nil))
	h.ok(h.DeleteSubscription(h.ctx(), by, s.ID, nil))
	_, err = h.ResumeSubscription(h.ctx(), by, s.ID)
	h.refused(err, belfry.Conflict, "ended")
	list, _, err := h.Subscriptions(h.ctx(), by.Tenant, SubscriptionQuery{})
	h.ok(err)
	if len(list) != 0 {
		t.Errorf("%+v", list)
	}

	rows, _, err := auditOf(h)
	h.ok(err)
	for _, action := range []string{"subscription.create", "subscription.put", "subscription.pause", "subscription.resume", "subscription.end", "endpoint.create", "object.put", "user.put", "group.put"} {
		if !slices.ContainsFunc(rows, func(r string) bool { return strings.HasPrefix(r, action+" ") && strings.HasSuffix(r, "key_1 (school)") }) {
			t.Errorf("no %s in the audit %q", action, rows)
		}
	}
}

func auditOf(h *house) ([]string, string, error) {
	list, err := h.db.Audit(h.ctx(), by.Tenant, "", 1000)
	var out []string
	for _, a := range list {
		out = append(out, a.Action+" "+a.Target+" by "+a.Who)
	}
	return out, "", err
}

func TestSubscriptionFaults(t *testing.T) {
	h := open(t).school()
	many := make([]string, maxNamed+1)
	for i := range many {
		many[i] = fmt.Sprint("user/", i)
	}
	role := func(r belfry.RoleRule) []belfry.Rule { return []belfry.Rule{{Role: &r}} }
	for name, c := range map[string]struct {
		s      belfry.Subscription
		places []string
	}{
		"scope":       {belfry.Subscription{Scope: belfry.Scope{Object: "nowhere"}}, []string{"/scope/object: nowhere"}},
		"applies":     {belfry.Subscription{Scope: belfry.Scope{Applies: "sub-tree"}}, []string{`/scope/applies: did you mean "subtree"`}},
		"types":       {belfry.Subscription{Types: []string{"a*b", "", "a b", "core.*"}}, []string{"/types/0: at its end", "/types/1: required", "/types/2: space"}},
		"filter":      {belfry.Subscription{Filter: "event.typ == 'x'"}, []string{"/filter: line 1, column 6: undefined field 'typ' (did you mean type?)"}},
		"long filter": {belfry.Subscription{Filter: strings.Repeat(" ", 9000) + "true"}, []string{"/filter: at most 8192"}},
		"no part":     {belfry.Subscription{Recipients: []belfry.Rule{{}}}, []string{"/recipients/0: exactly one"}},
		"two parts":   {belfry.Subscription{Recipients: []belfry.Rule{{Explicit: &belfry.ExplicitRule{Users: []string{"x"}}, Related: &belfry.RelatedRule{}}}}, []string{"/recipients/0: exactly one"}},
		"nobody":      {belfry.Subscription{Recipients: []belfry.Rule{{Explicit: &belfry.ExplicitRule{}}}}, []string{"/recipients/0/explicit: nobody"}},
		"too many":    {belfry.Subscription{Recipients: []belfry.Rule{{Explicit: &belfry.ExplicitRule{Users: many}}}}, []string{"/recipients: group"}},
		"address":     {belfry.Subscription{Recipients: []belfry.Rule{{Explicit: &belfry.ExplicitRule{Emails: []string{"x"}}}}, Exclude: belfry.Exclusion{Emails: []string{"y@"}}}, []string{"/recipients/0/explicit/emails/0: e-mail", "/exclude/emails/0: e-mail"}},
		"no role":     {belfry.Subscription{Recipients: role(belfry.RoleRule{})}, []string{"/recipients/0/role/roles: at least one"}},
		"ancestor":    {belfry.Subscription{Recipients: role(belfry.RoleRule{Roles: []string{"t"}, Origins: []string{"ancestor_local"}})}, []string{"/recipients/0/role/ancestor_types: is needed"}},
		"no ancestor": {belfry.Subscription{Recipients: role(belfry.RoleRule{Roles: []string{"t"}, AncestorTypes: []string{"course", ""}})},
			[]string{"/recipients/0/role/ancestor_types: leave it out", "/recipients/0/role/ancestor_types/1: required"}},
		"workflow": {belfry.Subscription{Recipients: []belfry.Rule{{Workflow: &belfry.WorkflowRule{Origins: []string{"contxt", "ancestor"}, Transitions: []string{"-", "*", "-"},
			Lookup: "first", Variables: []string{"a..b", ""}, History: "everywhere"}}}},
			[]string{`/recipients/0/workflow/origins/0: did you mean "context"`, "/recipients/0/workflow/ancestor_types: is needed by the origin ancestor", "/recipients/0/workflow/lookup: last, all",
				"/recipients/0/workflow/history: local, global", "/recipients/0/workflow/transitions/1: all but all", "/recipients/0/workflow/transitions/2: comes first",
				"/recipients/0/workflow/variables/0: dots", "/recipients/0/workflow/variables/1: required"}},
		"computed": {belfry.Subscription{Recipients: []belfry.Rule{{Computed: &belfry.ComputedRule{}}, {Computed: &belfry.ComputedRule{Expression: "event.actr"}},
			{Computed: &belfry.ComputedRule{Expression: "event.data.n == 5"}}, {Computed: &belfry.ComputedRule{Expression: "[1, 2]"}}}},
			[]string{"/recipients/0/computed/expression: empty", "/recipients/1/computed/expression: did you mean actor?", "/recipients/2/computed/expression: type bool, recipients are text",
				"/recipients/3/computed/expression: type list(int)"}},
		"computed ancestor": {belfry.Subscription{Recipients: []belfry.Rule{{Computed: &belfry.ComputedRule{Expression: "[ancestor.id]"}}, {Computed: &belfry.ComputedRule{Expression: "ancestors"}},
			{Computed: &belfry.ComputedRule{Expression: "event.data.list.map(x, ancestor.attributes.who)"}}, {Computed: &belfry.ComputedRule{Expression: "ancestor.id", AncestorTypes: []string{"course"}}}}},
			[]string{"/recipients/0/computed/ancestor_types: is needed by the variable ancestor", "/recipients/2/computed/ancestor_types: is needed"}},
		"spans": {belfry.Subscription{Throttle: &belfry.Throttle{Limit: 1, Window: "91d"}, Acknowledge: &belfry.Acknowledge{Escalate: []belfry.EscalationStep{{After: "0s"}}}},
			[]string{"/throttle/window: from 1s to 90d, such as 1h", "/acknowledge/escalate/0/after: from 1s to 90d, such as 15m"}},
		"origin":  {belfry.Subscription{Recipients: role(belfry.RoleRule{Roles: []string{"t"}, Origins: []string{"merge"}, On: "objects"})}, []string{`/recipients/0/role/origins/0: did you mean "merged"`, `/recipients/0/role/on: did you mean "object"`}},
		"related": {belfry.Subscription{Recipients: []belfry.Rule{{Related: &belfry.RelatedRule{Path: ".a"}}}}, []string{"/recipients/0/related/path: dots"}},
		"notify": {belfry.Subscription{Notify: []belfry.Notify{{Endpoint: "ep_x", Channels: []string{"pigeon"}}, {Template: "none"}, {Channels: []string{"webhook"}}}},
			[]string{"/notify/0: either", "/notify/0/endpoint: ep_x", "/notify/0/channels/0: pigeon", "/notify/1/template: none", "/notify/2/channels/0: endpoint"}},
	} {
		t.Run(name, func(t *testing.T) {
			h := *h
			h.t = t
			_, err := h.CreateSubscription(h.ctx(), by, c.s)
			h.refused(err, belfry.Invalid, c.places...)
		})
	}
}

// A filter that is evaluated for each event, like those of very many others, is
// allowed and warned of.
func TestCrowdsAreWarnedOf(t *testing.T) {
	h := open(t).school()
	c := &crowds{}
	m, err := New(Options{Store: h.db, Box: h.box, Now: func() time.Time { return h.now }, Channels: channelNames{"inbox"}, Crowds: c})
	h.ok(err)
	for n, want := range map[int]int{0: 0, 999: 0, 1000: 1} {
		c.n = n
		s, err := m.CreateSubscription(h.ctx(), by, belfry.Subscription{Filter: "event.data.n > 5", Recipients: related()})
		h.ok(err)
		if len(s.Warnings) != want || want > 0 && !strings.Contains(s.Warnings[0], "1000 others") {
			t.Errorf("%d others: %q", n, s.Warnings)
		}
	}
}

type crowds struct{ n int }

func (c *crowds) Crowd(string, *belfry.Subscription) int { return c.n }

func TestSubscriptionWarnings(t *testing.T) {
	h := open(t).school()
	for _, et := range []belfry.EventType{{Name: "old", Deprecated: true}, {Name: "quiet", Channels: belfry.TypeChannels{Forbidden: []string{"email"}}}} {
		_, _, _, err := h.PutEventType(h.ctx(), by, et, nil)
		h.ok(err)
	}
	e, _, err := h.CreateEndpoint(h.ctx(), by, belfry.Endpoint{URL: "https://example.org"})
	h.ok(err)
	for name, c := range map[string]struct {
		s    belfry.Subscription
		want []string
	}{
		"nobody":     {belfry.Subscription{}, []string{"it names nobody: no rule, no member, no endpoint, no script"}},
		"endpoint":   {belfry.Subscription{Notify: []belfry.Notify{{Endpoint: e.ID}}}, nil},
		"types":      {belfry.Subscription{Types: []string{"new", "old", "any.*"}, Recipients: related()}, []string{"event type old is deprecated", "no event of type new was declared or seen yet"}},
		"forbidden":  {belfry.Subscription{Types: []string{"quiet"}, Recipients: related(), Notify: []belfry.Notify{{Channels: []string{"email"}}}}, []string{"an administrator forbids channel email for event type quiet"}},
		"only calls": {belfry.Subscription{Recipients: related(), Notify: []belfry.Notify{{Endpoint: e.ID}}}, []string{`its rules name people, but notify only calls endpoints or runs scripts: add {"channels":[]} to tell them too`}},
		"strangers": {belfry.Subscription{Recipients: []belfry.Rule{{Explicit: &belfry.ExplicitRule{Users: []string{"user/8", "user/10", "user/99"}, Groups: []string{"staff", "none", "authenticated"}}}}},
			[]string{"group none is not known yet", "user user/10 is deleted", "user user/99 is not known yet"}},
	} {
		s, err := h.CreateSubscription(h.ctx(), by, c.s)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if d := cmp.Diff(c.want, s.Warnings, cmpopts.EquateEmpty()); d != "" {
			t.Errorf("%s (-want +got)\n%s", name, d)
		}
	}
}

func related() []belfry.Rule { return []belfry.Rule{{Related: &belfry.RelatedRule{}}} }

// feature: CPS-2
func TestWhichSubscriptionsWouldBeLookedAt(t *testing.T) {
	h := open(t).school()
	add := func(title, object, applies string, types ...string) {
		_, err := h.CreateSubscription(h.ctx(), by, belfry.Subscription{Title: title, Scope: belfry.Scope{Object: object, Applies: applies}, Types: types, Recipients: related()})
		h.ok(err)
		h.now = h.now.Add(time.Millisecond)
	}
	add("root", "", "")
	add("course", "course/41", "", "core.course_*")
	add("children", "course/41", belfry.AppliesChildren)
	add("self", "course/41", belfry.AppliesSelf)
	add("other", "course/42", "")
	for _, c := range []struct {
		typ, object string
		want        string
	}{
		{"", "", "root course children self other"},
		{"core.course_updated", "", "root course children self other"},
		{"mod_forum.post", "", "root children self other"},
		{"", "forum/3", "root course children"},
		{"core.course_updated", "course/41", "root course self"},
		{"x", "root", "root"},
	} {
		var got []string
		after := ""
		for {
			list, next, err := h.Subscriptions(h.ctx(), by.Tenant, SubscriptionQuery{Type: c.typ, Object: c.object, After: after, Limit: 2})
			h.ok(err)
			for _, s := range list {
				got = append(got, s.Title)
			}
			if after = next; next == "" {
				break
			}
		}
		if g := strings.Join(got, " "); g != c.want {
			t.Errorf("%s at %s: %s, want %s", c.typ, c.object, g, c.want)
		}
	}
	_, _, err := h.Subscriptions(h.ctx(), by.Tenant, SubscriptionQuery{Object: "nowhere"})
	h.refused(err, belfry.NotFound)
}

// feature: CPS-9 (membership counts for a sub-tree)
func TestMembers(t *testing.T) {
	h := open(t).school()
	s, err := h.CreateSubscription(h.ctx(), by, belfry.Subscription{Scope: belfry.Scope{Object: "course/41"}})
	h.ok(err)
	h.ok(second(h.PutMembers(h.ctx(), by, s.ID, []belfry.Member{{Principal: "user/8", Object: "forum/3", Channels: []string{"email"}}, {Principal: "user/8"}, {Principal: "staff", Object: "course/41"}})))
	got, next, err := h.Members(h.ctx(), by.Tenant, s.ID, "", 10)
	h.ok(err)
	want := []belfry.Member{{Principal: "staff"}, {Principal: "user/8"}, {Principal: "user/8", Object: "forum/3", Channels: []string{"email"}}}
	if d := cmp.Diff(want, got, cmpopts.IgnoreFields(belfry.Member{}, "Since", "Subscription", "By")); d != "" || next != "" {
		t.Error(d, next)
	}
	h.refused(second(h.PutMembers(h.ctx(), by, s.ID, []belfry.Member{{Principal: "user/99"}, {Principal: "user/8", Object: "course/42"}, {Principal: "user/8", Object: "nowhere"}, {Principal: "user/8", Channels: []string{"pigeon"}}})),
		belfry.Invalid, "/0/principal: user/99", "/1/object: outside", "/2/object: no object", "/3/channels/0: pigeon")
	h.ok(h.DropMembers(h.ctx(), by, s.ID, []belfry.Member{{Principal: "user/8", Object: "course/41"}, {Principal: "user/99"}}))
	got, _, err = h.Members(h.ctx(), by.Tenant, s.ID, "", 10)
	h.ok(err)
	if len(got) != 2 {
		t.Errorf("%+v", got)
	}
	h.refused(second(h.PutMembers(h.ctx(), by, "sub_unknown", nil)), belfry.NotFound)
	_, _, err = h.Members(h.ctx(), by.Tenant, "sub_unknown", "", 10)
	h.refused(err, belfry.NotFound)
}

// feature: PEER-2 (rotation with overlap)
func TestEndpointSecrets(t *testing.T) {
	h := open(t)
	e, shown, err := h.CreateEndpoint(h.ctx(), by, belfry.Endpoint{URL: "https://example.org/hook", Headers: map[string]string{"X-Site": "north"}, Timeout: "5s", Schedule: []string{"1s", "5m"}})
	h.ok(err)
	key, err := secret.ParseWebhookSecret(shown)
	h.ok(err)
	if len(key) < 24 || e.Format != "standard" || e.State != belfry.EndpointActive {
		t.Errorf("%d bytes, %+v", len(key), e)
	}
	opens := func(s belfry.EndpointSecret, want []byte) {
		t.Helper()
		clear, err := h.box.Open(s.Sealed, belfry.EndpointSecretContext(by.Tenant, e.ID))
		h.ok(err)
		if !bytes.Equal(clear, want) {
			t.Error("another secret was sealed than shown")
		}
	}
	stored, err := h.Endpoint(h.ctx(), by.Tenant, e.ID)
	h.ok(err)
	opens(stored.Secrets[0], key)
	doc, _, err := h.db.Document(h.ctx(), by.Tenant, belfry.KindEndpoint, e.ID)
	h.ok(err)
	if bytes.Contains(doc.Body, key) || strings.Contains(string(doc.Body), strings.TrimPrefix(shown, "whsec_")) {
		t.Error("the secret is stored in clear")
	}

	rotated, shown2, err := h.RotateSecret(h.ctx(), by, e.ID)
	h.ok(err)
	key2, err := secret.ParseWebhookSecret(shown2)
	h.ok(err)
	if len(rotated.Secrets) != 2 || rotated.Secrets[0].Until != nil || !rotated.Secrets[1].Until.Equal(h.now.Add(Overlap)) {
		t.Fatalf("%+v", rotated.Secrets)
	}
	opens(rotated.Secrets[0], key2)
	opens(rotated.Secrets[1], key)
	h.now = h.now.Add(Overlap)
	rotated, _, err = h.RotateSecret(h.ctx(), by, e.ID)
	h.ok(err)
	if len(rotated.Secrets) != 2 {
		t.Errorf("%d secrets: the expired one should be gone", len(rotated.Secrets))
	}

	paused, err := h.PauseEndpoint(h.ctx(), by, e.ID, "maintenance")
	h.ok(err)
	if paused.State != belfry.EndpointPaused || paused.Because != "maintenance" {
		t.Errorf("%+v", paused)
	}
	put, err := h.PutEndpoint(h.ctx(), by, belfry.Endpoint{ID: e.ID, URL: "https://example.org/new"}, &paused.Version)
	h.ok(err)
	if put.State != belfry.EndpointPaused || len(put.Secrets) != 2 || put.Timeout != "" {
		t.Errorf("%+v", put)
	}
	_, err = h.PutEndpoint(h.ctx(), by, belfry.Endpoint{ID: e.ID, URL: "https://example.org/new"}, &paused.Version)
	h.refused(err, belfry.Stale)
	_, err = h.ResumeEndpoint(h.ctx(), by, e.ID)
	h.ok(err)
	list, _, err := h.Endpoints(h.ctx(), by.Tenant, "", 10)
	h.ok(err)
	if len(list) != 1 || list[0].State != belfry.EndpointActive {
		t.Errorf("%+v", list)
	}
	h.ok(h.DeleteEndpoint(h.ctx(), by, e.ID, nil))
	_, err = h.Endpoint(h.ctx(), by.Tenant, e.ID)
	h.refused(err, belfry.NotFound)
	_, _, err = h.RotateSecret(h.ctx(), by, e.ID)
	h.refused(err, belfry.NotFound)
}

func TestEndpointFaults(t *testing.T) {
	h := open(t)
	for url, want := range map[string]string{
		"": "/url: required", "ftp://x": "/url: https://", "https://": "/url: host", "https://u:p@x": "/url: password", "/path": "/url: https://",
		"https://x/#y": "/url: fragment", "https://x:0/": "/url: port", "https://x\n": "/url: control", "https://" + strings.Repeat("x", 3000): "/url: at most",
	} {
		_, _, err := h.CreateEndpoint(h.ctx(), by, belfry.Endpoint{URL: url})
		h.refused(err, belfry.Invalid, want)
	}
	_, _, err := h.CreateEndpoint(h.ctx(), by, belfry.Endpoint{URL: "https://x", Format: "nosey", Timeout: "1h", Schedule: []string{"soon"}, RatePerSecond: -1, Concurrency: 65, Ordered: "objects",
		Headers: map[string]string{"host": "x", "Webhook-Id": "x", "X Y": "x", "X-A": "a\r\nb", "X-B/~": "ok"}})
	h.refused(err, belfry.Invalid, "/format: not available", "/timeout: from 100ms to 1m", "/schedule/0: to 30d", "/rate_per_second: from 0", "/concurrency: to 64", `/ordered: did you mean "object"`, "/headers/host: Belfry",
		"/headers/Webhook-Id: Belfry", "/headers/X Y: name", "/headers/X-A: one line", "/headers/X-B~1~0: name")
}

func TestCatalogueAndTemplates(t *testing.T) {
	h := open(t)
	et := belfry.EventType{Name: "core.course_updated", Title: "Course changed", Titles: map[string]string{"pt-BR": "Curso"}, Discovered: true, Retention: "30d", Schema: json.RawMessage(`{"type":"object"}`), Channels: belfry.TypeChannels{Default: []string{"inbox"}}}
	_, v, created, err := h.PutEventType(h.ctx(), by, et, version(0))
	h.ok(err)
	got, gv, err := h.EventType(h.ctx(), by.Tenant, et.Name)
	h.ok(err)
	et.Discovered = false
	if d := cmp.Diff(et, got); d != "" || v != gv || !created {
		t.Error(d, v, gv, created)
	}
	_, _, _, err = h.PutEventType(h.ctx(), by, belfry.EventType{Name: "core.*", Titles: map[string]string{"!": ""}, Schema: json.RawMessage(`3`), Channels: belfry.TypeChannels{Forced: []string{"email", "x"}, Forbidden: []string{"email"}}}, nil)
	h.refused(err, belfry.Invalid, "/name: one type", "/titles/!: language", "/schema: object", "/channels/forced/1: no channel", "/channels/forbidden/0: forced")
	for _, bad := range []string{"a month", "30m", "-3d", "36501d", "-24h", "30"} {
		_, _, _, err = h.PutEventType(h.ctx(), by, belfry.EventType{Name: "x", Retention: bad}, nil)
		h.refused(err, belfry.Invalid, "/retention: length of time from 1h to 36500d")
	}
	list, _, err := h.EventTypes(h.ctx(), by.Tenant, "", 10)
	h.ok(err)
	if len(list) != 1 {
		t.Errorf("%+v", list)
	}
	h.ok(h.DeleteEventType(h.ctx(), by, et.Name, nil))
	h.refused(h.DeleteEventType(h.ctx(), by, et.Name, nil), belfry.NotFound)

	_, _, created, err = h.PutTemplate(h.ctx(), by, belfry.Template{Name: "welcome", Words: belfry.Words{Subject: "{{object.title}}", Body: "Hello"}}, nil)
	h.ok(err)
	if !created {
		t.Error("not new")
	}
	_, _, _, err = h.PutTemplate(h.ctx(), by, belfry.Template{Name: "bad", Words: belfry.Words{Subject: "{{objct.title}}"}}, nil)
	h.refused(err, belfry.Invalid, "/subject: objct")
	_, _, _, err = h.PutTemplate(h.ctx(), by, belfry.Template{Name: "a b"}, nil)
	h.refused(err, belfry.Invalid, "/name: letters")
	templates, _, err := h.Templates(h.ctx(), by.Tenant, "", "", 10)
	h.ok(err)
	if len(templates) != 1 || templates[0].Name != "welcome" {
		t.Errorf("%+v", templates)
	}
	h.ok(h.DeleteTemplate(h.ctx(), by, "welcome", "", nil))
}

// feature: CPS-19
func TestTemplatesAtObjects(t *testing.T) {
	h := open(t)
	for _, id := range []string{"course/1", "a b"} {
		_, _, _, err := h.PutObject(h.ctx(), by, belfry.Object{ID: id, Type: "course"}, nil)
		h.ok(err)
	}
	put := func(object string) {
		t.Helper()
		_, _, _, err := h.PutTemplate(h.ctx(), by, belfry.Template{Name: "welcome", Object: object, Words: belfry.Words{Subject: "at " + object}}, nil)
		h.ok(err)
	}
	put("course/1")
	put("a b")
	put(belfry.RootObject) // is everywhere
	for object, want := range map[string]string{"course/1": "at course/1", "a b": "at a b", "": "at root", "root": "at root"} {
		got, _, err := h.Template(h.ctx(), by.Tenant, "welcome", object)
		h.ok(err)
		if got.Subject != want {
			t.Errorf("at %q: %+v", object, got)
		}
	}
	all, next, err := h.Templates(h.ctx(), by.Tenant, "", "", 2)
	h.ok(err)
	rest, end, err := h.Templates(h.ctx(), by.Tenant, "", next, 2)
	h.ok(err)
	if len(all) != 2 || len(rest) != 1 || end != "" {
		t.Errorf("pages %v %q %v %q", all, next, rest, end)
	}
	here, _, err := h.Templates(h.ctx(), by.Tenant, "course/1", "", 10)
	h.ok(err)
	if len(here) != 1 || here[0].Object != "course/1" {
		t.Errorf("at course/1: %+v", here)
	}
	_, _, _, err = h.PutTemplate(h.ctx(), by, belfry.Template{Name: "welcome", Object: "nowhere"}, nil)
	h.refused(err, belfry.NotFound)
	_, _, _, err = h.PutTemplate(h.ctx(), by, belfry.Template{Name: "bad", Locales: map[string]belfry.Words{"": {}, "!": {}, "pt": {Body: "{{x}}"}},
		Channels: map[string]belfry.ChannelWords{"pigeon": {}}}, nil)
	h.refused(err, belfry.Invalid, "/locales: empty language", "/locales/!: language", "/channels/pigeon: no channel")
	h.ok(h.DeleteTemplate(h.ctx(), by, "welcome", "a b", nil))
	h.refused(h.DeleteTemplate(h.ctx(), by, "welcome", "a b", nil), belfry.NotFound)
}

func TestChannelsAndSources(t *testing.T) {
	h := open(t)
	v, _, created, err := h.PutChannel(h.ctx(), by, ConfiguredDraft{Name: "email", Settings: map[string]string{"url": "smtp://u:hidden@x", "from": "a@x"}}, nil)
	h.ok(err)
	want := ConfiguredView{Name: "email", Kind: "email", Settings: map[string]string{"from": "a@x"}, Secret: []string{"url"}}
	if d := cmp.Diff(want, v); d != "" || !created {
		t.Error(d, created)
	}
	doc, _, err := h.db.Document(h.ctx(), by.Tenant, belfry.KindChannel, "email")
	h.ok(err)
	if strings.Contains(string(doc.Body), "hidden") {
		t.Errorf("the secret is stored in clear: %s", doc.Body)
	}
	// What is secret and left out keeps its value.
	_, _, _, err = h.PutChannel(h.ctx(), by, ConfiguredDraft{Name: "email", Settings: map[string]string{"from": "b@x"}}, nil)
	h.ok(err)
	c, err := h.configured(h.ctx(), by.Tenant, belfry.KindChannel, "email")
	h.ok(err)
	clear, err := c.Open(h.box, by.Tenant)
	h.ok(err)
	if d := cmp.Diff(map[string]string{"url": "smtp://u:hidden@x", "from": "b@x"}, clear); d != "" {
		t.Error(d)
	}
	_, _, _, err = h.PutChannel(h.ctx(), by, ConfiguredDraft{Name: "inbox"}, nil)
	h.refused(err, belfry.Invalid, "/name: always there")
	_, _, _, err = h.PutChannel(h.ctx(), by, ConfiguredDraft{Name: "a b", Kind: "emial"}, nil)
	h.refused(err, belfry.Invalid, "/name: letters", `/kind: did you mean "email"`)
	_, _, _, err = h.PutChannel(h.ctx(), by, ConfiguredDraft{Name: "mail2", Kind: "email"}, nil)
	h.refused(err, belfry.Invalid, "/settings/url: required")
	channels, err := h.Channels(h.ctx(), by.Tenant)
	h.ok(err)
	if d := cmp.Diff([]string{"email own", "inbox builtin", "webhook builtin"}, listed(channels)); d != "" {
		t.Error(d)
	}
	always, version, err := h.Channel(h.ctx(), by.Tenant, "inbox")
	h.ok(err)
	if !always.Builtin || version != 0 {
		t.Errorf("%+v, version %d", always, version)
	}
	h.ok(h.DeleteChannel(h.ctx(), by, "email", nil))

	s, sv, err := h.CreateSource(h.ctx(), by, ConfiguredDraft{Name: "school", Kind: "email", Settings: map[string]string{"url": "smtp://x"}})
	h.ok(err)
	if !strings.HasPrefix(s.ID, "src_") || s.State != "active" {
		t.Errorf("%+v", s)
	}
	_, _, err = h.CreateSource(h.ctx(), by, ConfiguredDraft{Name: "school", Kind: "email", Settings: map[string]string{"url": "smtp://x"}})
	h.refused(err, belfry.Conflict, s.ID)
	paused, _, err := h.PutSource(h.ctx(), by, s.ID, ConfiguredDraft{State: "paused"}, &sv)
	h.ok(err)
	if paused.State != "paused" || paused.Name != "school" || len(paused.Secret) != 1 {
		t.Errorf("%+v", paused)
	}
	_, _, err = h.PutSource(h.ctx(), by, s.ID, ConfiguredDraft{Name: "other"}, nil)
	h.refused(err, belfry.Invalid, "/name: cannot be changed")
	h.ok(h.DeleteSource(h.ctx(), by, s.ID, nil))
	_, _, err = h.Source(h.ctx(), by.Tenant, s.ID)
	h.refused(err, belfry.NotFound)
}

// Edits without a version do not lose each other; trees stay trees.
func TestManyAtOnce(t *testing.T) {
	h := open(t)
	e, _, err := h.CreateEndpoint(h.ctx(), by, belfry.Endpoint{URL: "https://example.org"})
	h.ok(err)
	h.ok(h.PutObjects(h.ctx(), by, []belfry.Object{{ID: "a", Type: "x"}, {ID: "b", Type: "x"}}))
	var all sync.WaitGroup
	cycles := make(chan error, 2)
	for i := range 2 {
		all.Go(func() {
			if _, _, err := h.RotateSecret(h.ctx(), by, e.ID); err != nil {
				t.Error(err)
			}
		})
		all.Go(func() {
			ab := []string{"a", "b"}
			_, _, _, err := h.PutObject(h.ctx(), by, belfry.Object{ID: ab[i], Type: "x", Parent: ab[1-i]}, nil)
			cycles <- err
		})
	}
	all.Wait()
	stored, err := h.Endpoint(h.ctx(), by.Tenant, e.ID)
	h.ok(err)
	if len(stored.Secrets) != 3 {
		t.Errorf("%d secrets after two rotations", len(stored.Secrets))
	}
	if first, second := <-cycles, <-cycles; (first == nil) == (second == nil) {
		t.Errorf("a in b and b in a: %v, %v", first, second)
	}
}

func TestNewNamesWhatIsMissing(t *testing.T) {
	if _, err := New(Options{}); err == nil || !strings.Contains(err.Error(), "Options.Store") {
		t.Error(err)
	}
}

// second is the error of a call that gives members too.
func second(_ []belfry.Member, err error) error { return err }

// A language that there is not is a slip, and would be told in another; what
// follows a language may be anything.
func TestLanguages(t *testing.T) {
	h := open(t)
	for _, locale := range []string{"", "en", "pt-BR", "zh-Hant-TW", "sr-Latn", "de-kids", "gsw", "tlh", "iw", "PT-br", "es-419"} {
		_, _, _, err := h.PutUser(h.ctx(), by, belfry.User{ID: "user/30", Locale: locale}, nil)
		h.ok(err)
	}
	for locale, says := range map[string]string{"german": "pt-BR", "klingon": "pt-BR", "xx": `no language "xx"`, "qq-DE": `no language "qq"`, "p": "pt-BR", "pt_BR": "pt-BR", "de-": "pt-BR"} {
		_, _, _, err := h.PutUser(h.ctx(), by, belfry.User{ID: "user/30", Locale: locale}, nil)
		h.refused(err, belfry.Invalid, "/locale: "+says)
	}
	_, _, err := h.PutTenantSettings(h.ctx(), by, belfry.TenantSettings{Locale: "german"}, nil)
	h.refused(err, belfry.Invalid, "/locale: pt-BR")
	_, _, _, err = h.PutTemplate(h.ctx(), by, belfry.Template{Name: "bad", Locales: map[string]belfry.Words{"xx": {Body: "x"}}}, nil)
	h.refused(err, belfry.Invalid, "/locales/xx: no language")
}

// Days are written as days wherever a length of time is.
func TestSpansInDays(t *testing.T) {
	h := open(t)
	_, _, _, err := h.PutUser(h.ctx(), by, belfry.User{ID: "user/30"}, nil)
	h.ok(err)
	_, err = h.CreateSubscription(h.ctx(), by, belfry.Subscription{Throttle: &belfry.Throttle{Limit: 1, Window: "1d"},
		Acknowledge: &belfry.Acknowledge{Escalate: []belfry.EscalationStep{{After: "2d"}}}})
	h.ok(err)
	_, err = h.PutPreferences(h.ctx(), by, "user/30", []belfry.Preference{{Mutes: []belfry.Window{{From: "22:00", To: "07:00"}}, Remind: "1d"}})
	h.ok(err)
	e, _, err := h.CreateEndpoint(h.ctx(), by, belfry.Endpoint{URL: "https://example.org/in", DisableAfter: "5d", Schedule: []string{"1m", "1d"}})
	h.ok(err)
	_, _, err = h.PutTenantSettings(h.ctx(), by, belfry.TenantSettings{Authoriser: &belfry.Authoriser{Endpoint: e.ID, TTL: "1d", GiveUp: "2d"}}, nil)
	h.ok(err)
	for span, want := range map[time.Duration]time.Duration{
		(&belfry.Throttle{Window: "1d"}).Span():       24 * time.Hour,
		(&belfry.EscalationStep{After: "2d"}).Wait():  48 * time.Hour,
		(&belfry.Authoriser{TTL: "3d"}).Holds():       72 * time.Hour,
		(&belfry.Authoriser{GiveUp: "4d"}).Patience(): 96 * time.Hour,
	} {
		if span != want {
			t.Errorf("%v, want %v", span, want)
		}
	}
	_, _, err = h.CreateEndpoint(h.ctx(), by, belfry.Endpoint{URL: "https://example.org/in", Timeout: "2m", Schedule: []string{"31d"}, DisableAfter: "366d"})
	h.refused(err, belfry.Invalid, "/timeout: from 100ms to 1m, such as 15s", "/schedule/0: to 30d, such as 5m", "/disable_after: from 0s (never) to 365d, such as 5d")
}

package directory

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/resolve"
	"github.com/belfryhq/belfry/internal/store"
	"github.com/belfryhq/belfry/internal/store/storetest"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

const school = "school"

// open opens a store on an empty SQLite database.
func open(t testing.TB) *store.DB {
	t.Helper()
	db, err := store.Open(context.Background(), store.Options{URL: storetest.SQLitePlace(t), Log: slog.New(slog.DiscardHandler), Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Errorf("closing the store: %v", err)
		}
	})
	return db
}

// spy counts the reads of a real store, and can hold one back.
type spy struct {
	*store.DB
	mu    sync.Mutex
	reads map[string]int
	gates map[string]*gate
}

// gate holds one answer of the database back: reached says that it is there,
// open lets it through.
type gate struct{ reached, open chan struct{} }

func spyOn(db *store.DB) *spy {
	return &spy{DB: db, reads: map[string]int{}, gates: map[string]*gate{}}
}

func (s *spy) hold(what string) *gate {
	g := &gate{make(chan struct{}), make(chan struct{})}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gates[what] = g
	return g
}

func (s *spy) read(what string) {
	s.mu.Lock()
	s.reads[what]++
	g := s.gates[what]
	delete(s.gates, what)
	s.mu.Unlock()
	if g != nil {
		close(g.reached)
		<-g.open
	}
}

func (s *spy) count() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.reads
	s.reads = map[string]int{}
	return out
}

func (s *spy) Objects(ctx context.Context, tenant string, ids []string) (map[string]belfry.Object, error) {
	out, err := s.DB.Objects(ctx, tenant, ids)
	s.read("objects")
	return out, err
}

func (s *spy) Groups(ctx context.Context, tenant string, ids []string) (map[string]belfry.Group, error) {
	out, err := s.DB.Groups(ctx, tenant, ids)
	s.read("groups")
	return out, err
}

func (s *spy) Persons(ctx context.Context, tenant string, ids []string) (map[string]*belfry.Person, error) {
	out, err := s.DB.Persons(ctx, tenant, ids)
	s.read("persons")
	return out, err
}

func (s *spy) GrantsOn(ctx context.Context, tenant string, ids []string) (map[string][]belfry.Grant, error) {
	out, err := s.DB.GrantsOn(ctx, tenant, ids)
	s.read("grants")
	return out, err
}

func (s *spy) Members(ctx context.Context, tenant, sub, after string, limit int) ([]belfry.Member, error) {
	out, err := s.DB.Members(ctx, tenant, sub, after, limit)
	s.read("members")
	return out, err
}

func (s *spy) DocumentsOf(ctx context.Context, tenant, kind string, ids []string) (map[string]belfry.Document, error) {
	out, err := s.DB.DocumentsOf(ctx, tenant, kind, ids)
	s.read("document")
	return out, err
}

func apply(t testing.TB, db *store.DB, ch belfry.Changes) int64 {
	t.Helper()
	if ch.Tenant == "" {
		ch.Tenant = school
	}
	version, err := db.Apply(context.Background(), ch)
	if err != nil {
		t.Fatal(err)
	}
	return version
}

func at(t testing.TB, d *Directory, asOf int64) *View {
	t.Helper()
	v, err := d.At(context.Background(), school, asOf)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func ids(os []belfry.Object) (all []string) {
	for _, o := range os {
		all = append(all, o.ID)
	}
	return all
}

func user(id, email string) belfry.User {
	return belfry.User{ID: id, Email: email, State: belfry.UserActive}
}

func TestAncestors(t *testing.T) {
	db := spyOn(open(t))
	d := New(Options{Store: db})
	v1 := apply(t, db.DB, belfry.Changes{Objects: []belfry.Object{
		{ID: "forum", Type: "forum", Parent: "course"}, {ID: "course", Type: "course", Parent: "cat", Blocks: []string{"*"}}, {ID: "cat", Type: "category"}}})
	v := at(t, d, v1)
	chain := must(v.Ancestors("forum"))(t)
	if !slices.Equal(ids(chain), []string{"forum", "course", "cat", "root"}) || !chain[1].BlocksRole("x") {
		t.Fatalf("%+v", chain)
	}
	db.count()
	must(v.Ancestors("forum"))(t)
	if n := db.count(); len(n) != 0 {
		t.Errorf("a warm cache reads %v", n)
	}
	if got := must(v.Ancestors("nobody/knows"))(t); !slices.Equal(ids(got), []string{"nobody/knows", "root"}) || !got[0].Implied {
		t.Errorf("%+v", got)
	}
	if got := must(v.Ancestors(belfry.RootObject))(t); len(got) != 1 {
		t.Errorf("%+v", got)
	}
	// Events about a deletion resolve against the last known tree.
	v2 := apply(t, db.DB, belfry.Changes{DeleteObjects: []string{"course"}})
	got := must(at(t, d, v2).Ancestors("forum"))(t)
	if !slices.Equal(ids(got), []string{"forum", "course", "cat", "root"}) || got[0].Deleted == nil || got[1].Deleted == nil || got[2].Deleted != nil {
		t.Errorf("%+v", got)
	}
	// A cycle ends.
	v3 := apply(t, db.DB, belfry.Changes{Objects: []belfry.Object{{ID: "a", Parent: "b"}, {ID: "b", Parent: "a"}}})
	if got := must(at(t, d, v3).Ancestors("a"))(t); !slices.Equal(ids(got), []string{"a", "b", "root"}) {
		t.Errorf("%v", ids(got))
	}
}

func TestGroupsAreToldApartWheneverTheyAppear(t *testing.T) {
	db := open(t)
	d := New(Options{Store: db})
	v := at(t, d, apply(t, db, belfry.Changes{
		Users:         []belfry.User{user("u1", ""), user("u2", "")},
		Groups:        []belfry.Group{{ID: "g", Members: []string{"u2", "later", "u1", belfry.GroupAnyone}, Origin: "k"}},
		Grants:        []belfry.GrantSet{{Object: "c", Grants: []belfry.Grant{{Principal: "later", Role: "r"}, {Principal: "u1", Role: "r"}, {Principal: belfry.GroupAuthenticated, Role: "r"}}}},
		Subscriptions: []belfry.Subscription{{ID: "sub_1", State: belfry.SubscriptionActive}},
		Members:       []belfry.Member{{Subscription: "sub_1", Principal: "later"}, {Subscription: "sub_1", Principal: "u1"}},
	}))
	check := func(v *View, later bool) {
		t.Helper()
		wantUsers, wantGroups := []string{"later", "u1", "u2"}, []string{belfry.GroupAnyone}
		holders, joined := []string{belfry.GroupAuthenticated}, 0
		if later {
			wantUsers, wantGroups, holders, joined = []string{"u1", "u2"}, []string{belfry.GroupAnyone, "later"}, []string{belfry.GroupAuthenticated, "later"}, 1
		}
		g := must(v.Groups([]string{"g", "u1", "gone"}))(t)
		if d := cmp.Diff(map[string]resolve.Group{"g": {ID: "g", Users: wantUsers, Groups: wantGroups}}, g); d != "" {
			t.Error(d)
		}
		var groups []string
		grants := must(v.Grants([]string{"c", "other"}))(t)
		for _, x := range grants["c"].Groups {
			groups = append(groups, x.Principal)
		}
		if len(grants) != 1 || !slices.Equal(groups, holders) || len(grants["c"].Users)+len(groups) != 3 {
			t.Errorf("%+v", grants)
		}
		if j := must(v.JoinedGroups("sub_1"))(t); len(j) != joined || joined == 1 && j[0].Principal != "later" {
			t.Errorf("%+v", j)
		}
	}
	check(v, false)
	check(at(t, d, apply(t, db, belfry.Changes{Groups: []belfry.Group{{ID: "later", Members: []string{"u1"}, Origin: "k"}}})), true)
	check(at(t, d, apply(t, db, belfry.Changes{Groups: []belfry.Group{{ID: "elsewhere", Origin: "k"}}})), true)
	check(at(t, d, apply(t, db, belfry.Changes{DropGroups: []string{"later"}})), false)
	// More changes of groups than are remembered.
	var many []belfry.Group
	for i := range ringSize + 10 {
		many = append(many, belfry.Group{ID: fmt.Sprintf("many/%d", i), Origin: "k"})
	}
	many = append([]belfry.Group{{ID: "later", Origin: "k"}}, many...)
	check(at(t, d, apply(t, db, belfry.Changes{Groups: many})), true)
}

func TestLongListsOfMembers(t *testing.T) {
	db := spyOn(open(t))
	d := New(Options{Store: db})
	ch := belfry.Changes{Tenant: school, Groups: []belfry.Group{{ID: "team/1", Origin: "k"}}, Subscriptions: []belfry.Subscription{{ID: "sub_1", State: belfry.SubscriptionActive}}}
	const n = 3000
	for i := range n {
		ch.Members = append(ch.Members, belfry.Member{Subscription: "sub_1", Principal: fmt.Sprintf("user/%05d", i)})
	}
	ch.Members = append(ch.Members, belfry.Member{Subscription: "sub_1", Principal: "team/1", Object: "c"}, belfry.Member{Subscription: "sub_1", Principal: "team/2"}, belfry.Member{Subscription: "sub_1", Principal: belfry.GroupAuthenticated})
	v := at(t, d, apply(t, db.DB, ch))
	got := 0
	for after := ""; ; {
		ms := must(v.Members("sub_1", after, 700))(t)
		if len(ms) == 0 {
			break
		}
		got, after = got+len(ms), ms[len(ms)-1].Principal
	}
	if got != n+3 {
		t.Errorf("%d members", got)
	}
	if j := must(v.JoinedGroups("sub_1"))(t); len(j) != 2 || j[0].Principal != belfry.GroupAuthenticated || j[1].Principal != "team/1" || j[1].Object != "c" {
		t.Errorf("%+v", j)
	}
	db.count()
	must(v.JoinedGroups("sub_1"))(t)
	if n := db.count(); len(n) != 0 {
		t.Errorf("asking again reads %v", n)
	}
	if j := must(at(t, d, apply(t, db.DB, belfry.Changes{Groups: []belfry.Group{{ID: "team/2", Origin: "k"}}})).JoinedGroups("sub_1"))(t); len(j) != 3 {
		t.Errorf("%+v", j)
	}
	if j := must(at(t, d, apply(t, db.DB, belfry.Changes{DropMembers: []belfry.Member{{Subscription: "sub_1", Principal: "team/1", Object: "c"}}})).JoinedGroups("sub_1"))(t); len(j) != 2 {
		t.Errorf("%+v", j)
	}
}

func TestOneQueryAKind(t *testing.T) {
	db := spyOn(open(t))
	d := New(Options{Store: db})
	ch := belfry.Changes{Tenant: school}
	var us, objects []string
	for i := range 500 {
		us, objects = append(us, fmt.Sprintf("u%d", i)), append(objects, fmt.Sprintf("o%d", i))
		ch.Users = append(ch.Users, user(us[i], ""))
		ch.Objects = append(ch.Objects, belfry.Object{ID: objects[i]})
		ch.Grants = append(ch.Grants, belfry.GrantSet{Object: objects[i], Grants: []belfry.Grant{{Principal: us[i], Role: "r"}}})
	}
	v := at(t, d, apply(t, db.DB, ch))
	if p := must(v.Persons(append(us, "nobody", "u1")))(t); len(p) != 500 {
		t.Error(len(p))
	}
	if o := must(v.Objects(objects))(t); len(o) != 500 {
		t.Error(len(o))
	}
	if g := must(v.Grants(objects))(t); len(g) != 500 || g["o7"].Users[0].Principal != "u7" {
		t.Error(len(g))
	}
	reads := db.count()
	delete(reads, "groups") // who of the holders is a group: once an object
	if d := cmp.Diff(map[string]int{"persons": 1, "objects": 1, "grants": 1}, reads); d != "" {
		t.Error(d)
	}
	must(v.Persons(append(us, "nobody")))(t)
	must(v.Grants(objects))(t)
	if n := db.count(); len(n) != 0 {
		t.Errorf("warm: %v", n)
	}
}

func TestPersonsByEmail(t *testing.T) {
	db := open(t)
	d := New(Options{Store: db})
	v := at(t, d, apply(t, db, belfry.Changes{Users: []belfry.User{user("u1", "One@x.org"), user("u2", "")}}))
	ask := []string{"one@x.org", "two@x.org"}
	if d := cmp.Diff(map[string]string{"one@x.org": "u1"}, must(v.PersonsByEmail(ask))(t)); d != "" {
		t.Error(d)
	}
	v = at(t, d, apply(t, db, belfry.Changes{Users: []belfry.User{user("u1", "two@x.org"), user("u2", "one@x.org")}}))
	if d := cmp.Diff(map[string]string{"one@x.org": "u2", "two@x.org": "u1"}, must(v.PersonsByEmail(ask))(t)); d != "" {
		t.Error(d)
	}
}

func TestDocuments(t *testing.T) {
	ctx := context.Background()
	db := spyOn(open(t))
	d := New(Options{Store: db})
	if _, ok, err := d.EventType(ctx, school, "a.b"); ok || err != nil {
		t.Fatal(ok, err)
	}
	if _, ok, err := d.Endpoint(ctx, school, "ep_1"); ok || err != nil {
		t.Fatal(ok, err)
	}
	typ, _ := json.Marshal(belfry.EventType{Name: "a.b", SeeRoles: []string{"teacher"}})
	ep, _ := belfry.EncodeEndpoint(belfry.Endpoint{ID: "ep_1", URL: "https://x.org", Secrets: []belfry.EndpointSecret{{Sealed: []byte("s")}}})
	ch := belfry.Changes{Tenant: school, Documents: []belfry.Document{{Kind: belfry.KindEventType, ID: "a.b", Body: typ}, {Kind: belfry.KindEndpoint, ID: "ep_1", Body: ep}, {Kind: belfry.KindEndpoint, ID: "ep_2", Body: []byte("{")}}}
	version := apply(t, db.DB, ch)
	d.Published(school, version, &ch)
	for range 2 {
		if got, ok, err := d.EventType(ctx, school, "a.b"); !ok || err != nil || len(got.SeeRoles) != 1 {
			t.Fatal(got, ok, err)
		}
		e, ok, err := d.Endpoint(ctx, school, "ep_1")
		if !ok || err != nil || e.URL != "https://x.org" || len(e.Secrets) != 1 || e.Version != version {
			t.Fatal(e, ok, err)
		}
	}
	if n := db.count()["document"]; n != 4 {
		t.Errorf("%d reads of documents", n)
	}
	// Many at once are one read of those that are not known, nobody among them.
	ep3, _ := belfry.EncodeEndpoint(belfry.Endpoint{ID: "ep_3", URL: "https://y.org"})
	ch = belfry.Changes{Tenant: school, Documents: []belfry.Document{{Kind: belfry.KindEndpoint, ID: "ep_3", Body: ep3}, {Kind: belfry.KindEndpoint, ID: "ep_4", Body: ep3}}}
	d.Published(school, apply(t, db.DB, ch), &ch)
	for range 2 {
		got, err := d.Endpoints(ctx, school, []string{"ep_1", "ep_3", "ep_4", "ep_none", "ep_3"})
		if err != nil || len(got) != 3 || got["ep_1"].URL != "https://x.org" || got["ep_3"].URL != "https://y.org" {
			t.Fatal(got, err)
		}
	}
	if n := db.count()["document"]; n != 1 {
		t.Errorf("%d reads of many documents", n)
	}
	if _, _, err := d.Endpoint(ctx, school, "ep_2"); belfry.KindOf(err) != belfry.Internal {
		t.Error(err)
	}
	ch = belfry.Changes{Tenant: school, DropDocuments: []belfry.DocumentKey{{Kind: belfry.KindEndpoint, ID: "ep_1"}}}
	d.Published(school, apply(t, db.DB, ch), &ch)
	if _, ok, err := d.Endpoint(ctx, school, "ep_1"); ok || err != nil {
		t.Fatal("a dropped endpoint is served", err)
	}
}

// Whatever was acknowledged before an event was sent applies to it, whether or
// not anybody told the directory.
func TestAtFollowsTheLog(t *testing.T) {
	db := open(t)
	d := New(Options{Store: db})
	d.logPage = 7
	name := func(i int) belfry.Changes {
		var ch belfry.Changes
		for k := range 3*i%11 + 1 {
			ch.Users = append(ch.Users, belfry.User{ID: fmt.Sprintf("u%d", k), Name: fmt.Sprint(i), State: belfry.UserActive})
		}
		return ch
	}
	var v int64
	for i := range 40 {
		v = apply(t, db, name(i))
		if i%10 == 3 {
			v = apply(t, db, belfry.Changes{Audit: []belfry.AuditEntry{{At: time.Now(), Who: "w", Action: "a", Target: "t"}}}) // touches nothing cached
		}
		if i%5 != 0 {
			continue
		}
		got := must(at(t, d, v).Persons([]string{"u0"}))(t)["u0"]
		if got.User.Name != fmt.Sprint(i) {
			t.Fatalf("at version %d: %s, want %d", v, got.User.Name, i)
		}
	}
	if _, err := d.At(context.Background(), school, v+1); belfry.KindOf(err) != belfry.Unavailable {
		t.Errorf("a version that is not there: %v", err)
	}
	// So far behind that all is forgotten.
	d.tooFar = 5
	must(at(t, d, 0).Persons([]string{"u0", "stranger"}))(t)
	for i := range 10 {
		v = apply(t, db, name(100+i))
	}
	if got := must(at(t, d, v).Persons([]string{"u0"}))(t)["u0"]; got.User.Name != "109" {
		t.Error(got.User.Name)
	}
	// From before where the log was cut off: all is forgotten.
	d.tooFar = 20_000
	must(at(t, d, v).Persons([]string{"u0"}))(t)
	apply(t, db, name(200))
	v = apply(t, db, belfry.Changes{Groups: []belfry.Group{{ID: "g"}}})
	if _, err := db.ClearChanges(context.Background(), school, v, 10_000); err != nil {
		t.Fatal(err)
	}
	if got := must(at(t, d, v).Persons([]string{"u0"}))(t)["u0"]; got.User.Name != "200" {
		t.Errorf("after a cut of the log: %s", got.User.Name)
	}
	apply(t, db, name(7))
	if err := d.Refresh(context.Background(), school); err != nil {
		t.Fatal(err)
	}
	if got := must(at(t, d, 0).Persons([]string{"u0"}))(t)["u0"]; got.User.Name != "7" {
		t.Error(got.User.Name)
	}
}

func TestPublishedIsInForceAtOnce(t *testing.T) {
	db := spyOn(open(t))
	d := New(Options{Store: db})
	first := apply(t, db.DB, belfry.Changes{Objects: []belfry.Object{{ID: "a"}, {ID: "b", Parent: "a"}}, Users: []belfry.User{user("u", "")}})
	v := at(t, d, first)
	must(v.Ancestors("b"))(t)
	must(v.Persons([]string{"u"}))(t)
	edit := func(ch belfry.Changes) int64 {
		ch.Tenant = school
		version := apply(t, db.DB, ch)
		d.Published(school, version, &ch)
		return version
	}
	edit(belfry.Changes{Settings: []belfry.UserSettings{{User: "u", Settings: belfry.Settings{Stop: true}}}})
	if p := must(at(t, d, 0).Persons([]string{"u"}))(t)["u"]; !p.Settings.Stop {
		t.Error("stale settings")
	}
	edit(belfry.Changes{Preferences: []belfry.UserPreferences{{User: "u", Preferences: []belfry.Preference{{Level: "none"}}}}})
	if p := must(at(t, d, 0).Persons([]string{"u"}))(t)["u"]; len(p.Preferences) != 1 {
		t.Error("stale preferences")
	}
	edit(belfry.Changes{DeleteObjects: []string{"a"}})
	if chain := must(at(t, d, 0).Ancestors("b"))(t); chain[0].Deleted == nil {
		t.Error("stale child of a deleted object")
	}
	last := edit(belfry.Changes{DeleteUsers: []string{"u"}})
	if p := must(at(t, d, last).Persons([]string{"u"}))(t)["u"]; p.User.State != belfry.UserDeleted {
		t.Error("stale state")
	}
	// Nothing was missing in between, so the log was never asked.
	d2 := d.tenant(school)
	if d2.applied != last || len(d2.ahead) != 0 {
		t.Errorf("applied %d of %d, ahead %v", d2.applied, last, d2.ahead)
	}
	// Edits published out of order, and one made elsewhere.
	one := belfry.Changes{Tenant: school, Users: []belfry.User{user("x", "")}}
	two := belfry.Changes{Tenant: school, Users: []belfry.User{user("y", "")}}
	v1, v2 := apply(t, db.DB, one), apply(t, db.DB, two)
	d.Published(school, v2, &two)
	if d2.applied != last {
		t.Error("a gap was passed over")
	}
	d.Published(school, v1, &one)
	if d2.applied != v2 {
		t.Errorf("applied %d, want %d", d2.applied, v2)
	}
}

// A reader asks the database, an edit commits and is published, the reader
// comes back with what was true before: that must not stay.
func TestAStaleReadIsNotKept(t *testing.T) {
	db := spyOn(open(t))
	d := New(Options{Store: db})
	name := func(n string) belfry.Changes {
		return belfry.Changes{Tenant: school, Users: []belfry.User{{ID: "u", Name: n, State: belfry.UserActive}, {ID: "w", State: belfry.UserActive}}, Objects: []belfry.Object{{ID: "o", Title: n}}}
	}
	v := at(t, d, apply(t, db.DB, name("old")))
	for _, how := range []string{"published", "followed", "forgotten"} {
		g := db.hold("persons")
		done := make(chan error, 1)
		go func() {
			_, err := v.Persons([]string{"u", "w", "unknown"})
			done <- err
		}()
		<-g.reached
		ch := name("new " + how)
		version := apply(t, db.DB, ch)
		switch how {
		case "published":
			d.Published(school, version, &ch)
		case "followed":
			at(t, d, version)
		default:
			d.forget(d.tenant(school))
		}
		close(g.open)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if got := must(at(t, d, version).Persons([]string{"u"}))(t)["u"]; got.User.Name != "new "+how {
			t.Errorf("%s: the stale %q was kept", how, got.User.Name)
		}
		d.forget(d.tenant(school))
	}
}

// Writers count up in a user's name each; readers must never see less than what
// was answered when they asked.
func TestReadersAndWriters(t *testing.T) {
	db := open(t)
	d := New(Options{Store: db, Persons: 8})
	ctx := context.Background()
	type answered struct {
		count   int
		version int64
	}
	var latest [2]atomic.Pointer[answered]
	var writers, readers sync.WaitGroup
	stop := make(chan struct{})
	fail := make(chan error, 16)
	for w := range latest {
		latest[w].Store(&answered{})
		writers.Go(func() {
			for i := 1; i <= 100; i++ {
				ch := belfry.Changes{Tenant: school, Users: []belfry.User{{ID: fmt.Sprint("u", w), Name: strconv.Itoa(i), State: belfry.UserActive}}}
				version, err := db.Apply(ctx, ch)
				if err != nil {
					fail <- err
					return
				}
				if (i+w)%2 == 0 {
					d.Published(school, version, &ch)
				}
				latest[w].Store(&answered{i, version})
			}
		})
	}
	for r := range 3 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				w := r % 2
				was := latest[w].Load()
				v, err := d.At(ctx, school, was.version)
				if err != nil {
					fail <- err
					return
				}
				id := fmt.Sprint("u", w)
				got, err := v.Persons([]string{id})
				if err != nil {
					fail <- err
					return
				}
				count := 0
				if got[id] != nil {
					count, _ = strconv.Atoi(got[id].User.Name)
				}
				if count < was.count {
					fail <- fmt.Errorf("as of version %d the view gives %d, want at least %d", was.version, count, was.count)
					return
				}
			}
		})
	}
	writers.Wait()
	close(stop)
	readers.Wait()
	close(fail)
	for err := range fail {
		t.Error(err)
	}
}

func TestBounds(t *testing.T) {
	db := open(t)
	d := New(Options{Store: db, Objects: 40, Persons: 40, Grants: 60, Groups: 50})
	ch := belfry.Changes{Tenant: school}
	var us []string
	for i := range 100 {
		us = append(us, fmt.Sprintf("u%02d", i))
		ch.Users = append(ch.Users, user(us[i], ""))
		o := fmt.Sprintf("o%02d", i)
		ch.Objects = append(ch.Objects, belfry.Object{ID: o})
		ch.Grants = append(ch.Grants, belfry.GrantSet{Object: o, Grants: []belfry.Grant{{Principal: us[i], Role: "r"}, {Principal: us[0], Role: "s"}}})
	}
	ch.Groups = []belfry.Group{{ID: "big", Members: us, Origin: "k"}, {ID: "small", Members: us[:3], Origin: "k"}}
	v := at(t, d, apply(t, db, ch))
	for i := range 100 {
		must(v.Persons(us[i : i+1]))(t)
		must(v.Ancestors(fmt.Sprintf("o%02d", i)))(t)
		must(v.Grants([]string{fmt.Sprintf("o%02d", i)}))(t)
		must(v.Groups([]string{"big", "small"}))(t)
	}
	if d.objects.total > 40 || d.persons.total > 40 || d.grants.total > 60 || d.groups.total > 50 || d.objects.total < 30 || d.grants.total < 50 {
		t.Errorf("objects %d, persons %d, grants %d, groups %d", d.objects.total, d.persons.total, d.grants.total, d.groups.total)
	}
	// Weights are kept right as entries come and go.
	sum := 0
	for _, k := range d.grants.lru.Keys() {
		s, _ := d.grants.lru.Peek(k)
		sum += d.grants.weight(s)
	}
	if sum != d.grants.total {
		t.Errorf("grants weigh %d, %d counted", sum, d.grants.total)
	}
	// A sweep over everybody does not push out what others use.
	must(v.Persons(us[:5]))(t)
	before := d.persons.lru.Keys()
	if got := must(v.Persons(us))(t); len(got) != 100 {
		t.Error(len(got))
	}
	if after := d.persons.lru.Keys(); len(after) != len(before) {
		t.Errorf("%d entries, %d before", len(after), len(before))
	}
}

func TestFaultsAreNotCached(t *testing.T) {
	db := open(t)
	d := New(Options{Store: db})
	apply(t, db, belfry.Changes{Users: []belfry.User{user("u", "")}})
	at(t, d, 0)
	ctx, cancel := context.WithCancel(context.Background())
	v := must(d.At(ctx, school, 0))(t)
	cancel()
	if _, err := v.Persons([]string{"u"}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if _, err := v.Ancestors("o"); err == nil {
		t.Error("no error")
	}
	if _, err := v.Grants([]string{"o"}); err == nil {
		t.Error("no error")
	}
	if _, err := v.Groups([]string{"g"}); err == nil {
		t.Error("no error")
	}
	if p := must(at(t, d, 0).Persons([]string{"u"}))(t); p["u"] == nil {
		t.Error("the fault was cached")
	}
}

// Any edits, published or not, then any question: the caches answer as a
// directory does that has seen nothing before.
func TestViewsEqualTheStore(t *testing.T) {
	db := open(t)
	ctx := context.Background()
	names := []string{"a", "b", "c", "d", "e"}
	n := 0
	rapid.Check(t, func(rt *rapid.T) {
		n++
		tenant := fmt.Sprintf("t%d", n)
		d := New(Options{Store: db, Objects: rapid.SampledFrom([]int{2, 100}).Draw(rt, "objects"), Groups: rapid.SampledFrom([]int{3, 100}).Draw(rt, "groups")})
		one := func(label string) string { return rapid.SampledFrom(names).Draw(rt, label) }
		some := func(label string) []string { return rapid.SliceOfN(rapid.SampledFrom(names), 1, 3).Draw(rt, label) }
		var version int64
		for range rapid.IntRange(1, 12).Draw(rt, "edits") {
			ch := belfry.Changes{Tenant: tenant}
			// Groups are g-, users u-, so ids never clash; members name both.
			id := one("id")
			principals := []string{"u" + one("principal"), "g" + one("group principal")}
			switch rapid.IntRange(0, 8).Draw(rt, "kind") {
			case 0:
				ch.Objects = []belfry.Object{{ID: id, Parent: "", Title: one("title")}}
			case 1:
				ch.DeleteObjects = []string{id}
			case 2:
				ch.Users = []belfry.User{{ID: "u" + id, Name: one("name"), Email: one("mail") + "@x.org", State: belfry.UserActive}}
			case 3:
				ch.DeleteUsers = []string{"u" + id}
			case 4:
				ch.Groups = []belfry.Group{{ID: "g" + id, Members: principals, Origin: "k"}}
			case 5:
				ch.DropGroups = []string{"g" + id}
			case 6:
				ch.Grants = []belfry.GrantSet{{Object: id, Grants: []belfry.Grant{{Principal: principals[0], Role: "r"}, {Principal: principals[1], Role: one("role")}}}}
			case 7:
				ch.Members = []belfry.Member{{Subscription: id, Principal: principals[rapid.IntRange(0, 1).Draw(rt, "who")]}}
			case 8:
				body, _ := json.Marshal(belfry.EventType{Name: id, Title: one("type's title")})
				ch.Documents = []belfry.Document{{Kind: belfry.KindEventType, ID: id, Body: body}}
			}
			v, err := db.Apply(ctx, ch)
			if err != nil {
				rt.Fatal(err)
			}
			version = v
			if rapid.Bool().Draw(rt, "published") {
				d.Published(tenant, version, &ch)
			}
			if rapid.Bool().Draw(rt, "look later") {
				continue
			}
			ask, askU, askG := some("ask"), []string{}, []string{}
			for _, a := range ask {
				askU, askG = append(askU, "u"+a), append(askG, "g"+a)
			}
			look := func(d *Directory) map[string]any {
				v, err := d.At(ctx, tenant, version)
				if err != nil {
					rt.Fatal(err)
				}
				out := map[string]any{}
				put := func(what string, x any, err error) {
					if err != nil {
						rt.Fatal(what, err)
					}
					out[what] = x
				}
				chain, err := v.Ancestors(ask[0])
				put("ancestors", chain, err)
				grants, err := v.Grants(ask)
				put("grants", grants, err)
				groups, err := v.Groups(askG)
				put("groups", groups, err)
				persons, err := v.Persons(askU)
				put("persons", persons, err)
				mails, err := v.PersonsByEmail([]string{ask[0] + "@x.org", "a@x.org"})
				put("mails", mails, err)
				members, err := v.Members(ask[0], "", 10)
				put("members", members, err)
				joined, err := v.JoinedGroups(ask[0])
				put("joined", joined, err)
				typ, ok, err := d.EventType(ctx, tenant, ask[0])
				put("type", []any{typ, ok}, err)
				return out
			}
			if diff := cmp.Diff(look(New(Options{Store: db})), look(d), cmpopts.EquateEmpty()); diff != "" {
				rt.Fatalf("-fresh +cached\n%s", diff)
			}
		}
	})
}

// The stages on a real database: what resolve says through a view.
func TestResolveThroughAView(t *testing.T) {
	db := open(t)
	d := New(Options{Store: db})
	version := apply(t, db, belfry.Changes{
		Objects: []belfry.Object{{ID: "cat", Type: "category"}, {ID: "course", Type: "course", Parent: "cat"}, {ID: "forum", Type: "forum", Parent: "course"}},
		Users:   []belfry.User{user("u1", "u1@x.org"), user("u2", ""), user("u3", ""), user("u10", "")},
		Groups:  []belfry.Group{{ID: "staff", Members: []string{"u2", "inner"}, Origin: "k"}, {ID: "inner", Members: []string{"u3"}, Origin: "k"}},
		Grants: []belfry.GrantSet{{Object: "cat", Grants: []belfry.Grant{{Principal: "u10", Role: "teacher"}}},
			{Object: "course", Grants: []belfry.Grant{{Principal: "staff", Role: "teacher"}, {Principal: "u1", Role: "student", Inactive: "suspended enrolment"}}}},
		Members: []belfry.Member{{Subscription: "sub_1", Principal: "u1", Object: "forum"}},
	})
	sub := &belfry.Subscription{ID: "sub_1", Recipients: []belfry.Rule{{Role: &belfry.RoleRule{Roles: []string{"teacher", "student"}}}, {Explicit: &belfry.ExplicitRule{Emails: []string{"U1@x.org", "y@x.org"}}}}}
	e := &belfry.Accepted{Tenant: school, EventID: "evt_1", AsOf: version, Event: &belfry.Event{Type: "x", Object: "forum"}}
	p, err := resolve.Page(at(t, d, version), e, []belfry.Match{{Subscription: sub}}, belfry.EventType{}, time.Now(), "", 0)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range p.Recipients {
		s := r.Principal + r.Address + ":"
		for _, b := range r.Via[0].Because {
			s += " " + b.Code
		}
		got = append(got, s)
	}
	want := []string{"y@x.org: named_address", "u1: named_member named_address", "u10: named_role", "u2: named_role", "u3: named_role"}
	if d := cmp.Diff(want, got); d != "" || len(p.Dropped) != 0 || !p.Last {
		t.Errorf("%s\n%+v", d, p.Dropped)
	}
}

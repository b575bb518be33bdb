package directory

import (
	"context"
	"encoding/json"
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/resolve"
)

// Store is what the directory reads. Maps hold only what exists.
type Store interface {
	Version(ctx context.Context, tenant string) (int64, error)
	ChangesSince(ctx context.Context, tenant string, version int64, limit int) ([]belfry.Change, error)
	Objects(ctx context.Context, tenant string, ids []string) (map[string]belfry.Object, error)
	Groups(ctx context.Context, tenant string, ids []string) (map[string]belfry.Group, error)
	Persons(ctx context.Context, tenant string, ids []string) (map[string]*belfry.Person, error)
	PersonsByEmail(ctx context.Context, tenant string, emails []string) (map[string]string, error)
	UserIDs(ctx context.Context, tenant, after string, limit int) ([]string, error)
	GrantsOn(ctx context.Context, tenant string, objects []string) (map[string][]belfry.Grant, error)
	Members(ctx context.Context, tenant, subscription, after string, limit int) ([]belfry.Member, error)
	// MembersAmong are all of those who are asked for, in order.
	MembersAmong(ctx context.Context, tenant, subscription string, who []string) ([]belfry.Member, error)
	DocumentsOf(ctx context.Context, tenant, kind string, ids []string) (map[string]belfry.Document, error)
	Steps(ctx context.Context, tenant string, q belfry.StepQuery) (steps []belfry.HistoryEntry, next string, err error)
}

// JoinedGroups is a faster way to find the groups among a subscription's
// members, and those members that are named. A store without it is read member by member, once until groups or
// members change.
type JoinedGroups interface {
	JoinedGroups(ctx context.Context, tenant, subscription string, also []string) ([]belfry.Member, error)
}

// OptOuts lists who opted out of a subscription, after somebody or among those
// who are asked for, in order; a store without it has no opt-outs.
type OptOuts interface {
	OptOuts(ctx context.Context, tenant, subscription, after string, limit int) ([]belfry.OptOut, error)
	OptOutsAmong(ctx context.Context, tenant, subscription string, who []string) ([]belfry.OptOut, error)
}

// Options of a Directory. Limits are numbers of entries over all tenants; zero
// is a default that suits a small server (some tens of megabytes when full).
type Options struct {
	Store     Store
	Objects   int // objects
	Grants    int // grants, on however many objects
	Groups    int // members of groups
	Persons   int // users
	Members   int // members of subscriptions; long lists are not cached
	Documents int // event types and endpoints, each
}

// Directory caches the directories of all tenants.
type Directory struct {
	store   Store
	joined  JoinedGroups // nil = the store has none
	optOuts OptOuts      // nil = the store has none
	tenants sync.Map     // name -> *tenantState
	logPage int
	tooFar  int64

	objects   *cache[belfry.Object]
	grants    *cache[*grantList]
	groups    *cache[*groupList]
	persons   *cache[*belfry.Person]
	emails    *cache[string] // id of the user
	members   *cache[*memberList]
	outs      *cache[*outList]
	types     *cache[belfry.EventType]
	endpoints *cache[*belfry.Endpoint]
	settings  *cache[*belfry.TenantSettings]
}

// grantList is what is granted on an object.
type grantList struct {
	all        []belfry.Grant // sorted by principal
	principals []string       // of all, sorted, unique
	classifier
	split atomic.Pointer[splitGrants]
}

type splitGrants struct {
	groups []string // what it was split by
	grants resolve.Grants
}

// groupList is a group and its direct members.
type groupList struct {
	group belfry.Group
	ids   []string // members, sorted, unique
	classifier
	split atomic.Pointer[resolve.Group]
}

// memberList is a subscription's members when there are few, else only the
// groups among them.
type memberList struct {
	few        []belfry.Member // sorted by principal
	complete   bool
	principals []string // of few
	classifier
	joined atomic.Pointer[joinedGroups]
}

type joinedGroups struct {
	groups  []string // of a short list: what it was derived from
	stamp   uint64   // of a long one: when it was read
	members []belfry.Member
}

// outList is who opted out of a subscription when there are few.
type outList struct {
	few      []belfry.OptOut
	complete bool
}

// fewMembers is up to how many members, or opt-outs, a subscription's list is
// cached whole.
const fewMembers = 256

// New makes a directory with empty caches.
func New(o Options) *Directory {
	d := &Directory{store: o.Store, logPage: logPage, tooFar: tooFar}
	d.joined, _ = o.Store.(JoinedGroups)
	d.optOuts, _ = o.Store.(OptOuts)
	or := func(n, otherwise int) int {
		if n > 0 {
			return n
		}
		return otherwise
	}
	d.objects = newCache[belfry.Object](or(o.Objects, 50_000), nil)
	d.grants = newCache(or(o.Grants, 300_000), func(g *grantList) int { return 1 + len(g.all) })
	d.groups = newCache(or(o.Groups, 300_000), func(g *groupList) int { return 1 + len(g.ids) })
	d.persons = newCache[*belfry.Person](or(o.Persons, 20_000), nil)
	d.emails = newCache[string](or(o.Persons, 20_000), nil)
	d.members = newCache(or(o.Members, 100_000), func(m *memberList) int { return 1 + len(m.few) })
	d.outs = newCache(or(o.Members, 100_000), func(l *outList) int { return 1 + len(l.few) })
	d.types = newCache[belfry.EventType](or(o.Documents, 4096), nil)
	d.endpoints = newCache[*belfry.Endpoint](or(o.Documents, 4096), nil)
	d.settings = newCache[*belfry.TenantSettings](or(o.Documents, 4096), nil)
	return d
}

// View reads one tenant's directory at a version or later, for one piece of
// work: it carries the context of its reads.
type View struct {
	d       *Directory
	t       *tenantState
	ctx     context.Context
	passing bool // people read are not kept
}

var _ resolve.Among = (*View)(nil)

// At gives a view of the tenant at version asOf or later; 0 is whatever has
// been published or followed so far. The error is Unavailable when the
// database is not at that version itself.
func (d *Directory) At(ctx context.Context, tenant string, asOf int64) (*View, error) {
	t, err := d.ready(ctx, tenant)
	if err != nil {
		return nil, err
	}
	if err := d.follow(ctx, t, asOf); err != nil {
		return nil, err
	}
	return &View{d: d, t: t, ctx: ctx}, nil
}

// Version is a version that all the view shows is of, or later.
func (v *View) Version() int64 {
	v.t.mu.Lock()
	defer v.t.mu.Unlock()
	return v.t.applied
}

// Passing is the same view for a pass over very many people: those it reads are
// not kept, and so do not push out those that others ask for again and again.
func (v *View) Passing() *View {
	p := *v
	p.passing = true
	return &p
}

// Refresh makes the caches follow every edit committed so far, also those made
// by other processes on the same database.
func (d *Directory) Refresh(ctx context.Context, tenant string) error {
	t, err := d.ready(ctx, tenant)
	if err != nil {
		return err
	}
	version, err := d.store.Version(ctx, tenant)
	if err != nil {
		return err
	}
	return d.follow(ctx, t, version)
}

// EventType is the catalogue's entry of a type; false when there is none.
func (d *Directory) EventType(ctx context.Context, tenant, name string) (belfry.EventType, bool, error) {
	return document(ctx, d, d.types, tenant, belfry.KindEventType, name, func(doc belfry.Document) (belfry.EventType, error) {
		var t belfry.EventType
		if err := json.Unmarshal(doc.Body, &t); err != nil {
			return t, belfry.Errorf(belfry.Internal, "event type %s is stored in a form this version does not read: %w", name, err)
		}
		return t, nil
	})
}

// Endpoint is an endpoint with its sealed secrets; false when there is none.
func (d *Directory) Endpoint(ctx context.Context, tenant, id string) (*belfry.Endpoint, bool, error) {
	return document(ctx, d, d.endpoints, tenant, belfry.KindEndpoint, id, decodeEndpoint)
}

// Endpoints gives those of the ids that there are, reading what is not cached at
// once.
func (d *Directory) Endpoints(ctx context.Context, tenant string, ids []string) (map[string]*belfry.Endpoint, error) {
	return documents(ctx, d, d.endpoints, tenant, belfry.KindEndpoint, ids, decodeEndpoint)
}

func decodeEndpoint(doc belfry.Document) (*belfry.Endpoint, error) {
	e, err := belfry.DecodeEndpoint(doc)
	return &e, err
}

// TenantSettings are what is set for the whole tenant; nil when nothing is.
func (d *Directory) TenantSettings(ctx context.Context, tenant string) (*belfry.TenantSettings, error) {
	s, _, err := document(ctx, d, d.settings, tenant, belfry.KindSetting, belfry.TenantSettingsID, belfry.DecodeTenantSettings)
	return s, err
}

// document reads a document through a cache of its decoded form.
func document[V any](ctx context.Context, d *Directory, c *cache[V], tenant, kind, id string, decode func(belfry.Document) (V, error)) (V, bool, error) {
	if s, known := c.get(tenant, id); known {
		return s.value, s.exists, nil
	}
	found, err := documents(ctx, d, c, tenant, kind, []string{id}, decode)
	v, ok := found[id]
	return v, ok, err
}

func documents[V any](ctx context.Context, d *Directory, c *cache[V], tenant, kind string, ids []string, decode func(belfry.Document) (V, error)) (map[string]V, error) {
	if _, err := d.ready(ctx, tenant); err != nil {
		return nil, err
	}
	return c.many(tenant, ids, func(missing []string) (map[string]V, error) {
		docs, err := d.store.DocumentsOf(ctx, tenant, kind, missing)
		if err != nil {
			return nil, err
		}
		found := make(map[string]V, len(docs))
		for id, doc := range docs {
			if found[id], err = decode(doc); err != nil {
				return nil, err
			}
		}
		return found, nil
	})
}

// Objects are those of the ids that are known, deleted ones included.
func (v *View) Objects(ids []string) (map[string]belfry.Object, error) {
	return v.d.objects.many(v.t.name, ids, func(missing []string) (map[string]belfry.Object, error) {
		return v.d.store.Objects(v.ctx, v.t.name, missing)
	})
}

func (v *View) object(id string) (belfry.Object, bool, error) {
	if s, known := v.d.objects.get(v.t.name, id); known {
		return s.value, s.exists, nil
	}
	found, err := v.Objects([]string{id})
	o, ok := found[id]
	return o, ok, err
}

// Ancestors are the object itself first and the root last, deleted objects
// included. What nobody declared is a child of the root. A cycle, which
// nothing should have stored, ends at the root where it closes.
func (v *View) Ancestors(id string) ([]belfry.Object, error) {
	var most [8]belfry.Object // as many as nearly all have, not kept
	chain := most[:0]
	for id != "" && id != belfry.RootObject {
		if slices.ContainsFunc(chain, func(o belfry.Object) bool { return o.ID == id }) {
			break
		}
		o, ok, err := v.object(id)
		if err != nil {
			return nil, err
		}
		if !ok {
			o = belfry.Object{ID: id, Implied: true}
		}
		chain = append(chain, o)
		id = o.Parent
	}
	root, ok, err := v.object(belfry.RootObject)
	if err != nil {
		return nil, err
	}
	if !ok {
		root = belfry.Object{ID: belfry.RootObject}
	}
	return slices.Clone(append(chain, root)), nil
}

// Grants are the grants on each of the objects, apart for users and groups.
func (v *View) Grants(objects []string) (map[string]resolve.Grants, error) {
	lists, err := v.d.grants.many(v.t.name, objects, func(missing []string) (map[string]*grantList, error) {
		found, err := v.d.store.GrantsOn(v.ctx, v.t.name, missing)
		if err != nil {
			return nil, err
		}
		out := make(map[string]*grantList, len(missing))
		for _, object := range missing {
			out[object] = newGrantList(found[object])
		}
		return out, nil
	})
	if err != nil {
		return nil, err
	}
	out := make(map[string]resolve.Grants, len(lists))
	for object, l := range lists {
		if len(l.all) == 0 {
			continue
		}
		groups, err := v.groupsOf(&l.classifier, l.principals)
		if err != nil {
			return nil, err
		}
		split := l.split.Load()
		if split == nil || !slices.Equal(split.groups, groups) {
			split = &splitGrants{groups: groups, grants: resolve.Grants{Users: l.all}}
			if len(groups) > 0 {
				split.grants.Users = nil
				for i := range l.all {
					if _, isGroup := slices.BinarySearch(groups, l.all[i].Principal); isGroup {
						split.grants.Groups = append(split.grants.Groups, l.all[i])
					} else {
						split.grants.Users = append(split.grants.Users, l.all[i])
					}
				}
			}
			l.split.Store(split)
		}
		out[object] = split.grants
	}
	return out, nil
}

func newGrantList(grants []belfry.Grant) *grantList {
	l := &grantList{all: grants}
	slices.SortStableFunc(l.all, func(a, b belfry.Grant) int { return strings.Compare(a.Principal, b.Principal) })
	// The few different roles and origins need not be kept a million times.
	words := map[string]string{}
	intern := func(s *string) {
		if w, ok := words[*s]; ok {
			*s = w
		} else {
			words[*s] = *s
		}
	}
	for i := range l.all {
		g := &l.all[i]
		intern(&g.Role)
		intern(&g.Origin)
		intern(&g.Object)
		intern(&g.Inactive)
		if n := len(l.principals); n == 0 || l.principals[n-1] != g.Principal {
			l.principals = append(l.principals, g.Principal)
		}
	}
	return l
}

// rawGroups are those of the ids that are groups.
func (v *View) rawGroups(ids []string) (map[string]*groupList, error) {
	return v.d.groups.many(v.t.name, ids, func(missing []string) (map[string]*groupList, error) {
		found, err := v.d.store.Groups(v.ctx, v.t.name, missing)
		if err != nil {
			return nil, err
		}
		out := make(map[string]*groupList, len(found))
		for id, g := range found {
			l := &groupList{group: g, ids: slices.Clone(g.Members)}
			slices.Sort(l.ids)
			l.ids = slices.Compact(l.ids)
			l.group.Members = nil
			out[id] = l
		}
		return out, nil
	})
}

// Groups are those of the ids that are groups, their members apart.
func (v *View) Groups(ids []string) (map[string]resolve.Group, error) {
	lists, err := v.rawGroups(ids)
	if err != nil {
		return nil, err
	}
	out := make(map[string]resolve.Group, len(lists))
	for id, l := range lists {
		groups, err := v.groupsOf(&l.classifier, l.ids)
		if err != nil {
			return nil, err
		}
		split := l.split.Load()
		if split == nil || !slices.Equal(split.Groups, groups) {
			split = &resolve.Group{ID: id, Address: l.group.Address, Users: l.ids, Groups: groups}
			if len(groups) > 0 {
				split.Users = make([]string, 0, len(l.ids)-len(groups))
				for _, m := range l.ids {
					if _, isGroup := slices.BinarySearch(groups, m); !isGroup {
						split.Users = append(split.Users, m)
					}
				}
			}
			l.split.Store(split)
		}
		out[id] = *split
	}
	return out, nil
}

// Persons are those of the ids that are users, whatever their state.
func (v *View) Persons(ids []string) (map[string]*belfry.Person, error) {
	if v.passing {
		return v.d.store.Persons(v.ctx, v.t.name, ids)
	}
	return v.d.persons.many(v.t.name, ids, func(missing []string) (map[string]*belfry.Person, error) {
		return v.d.store.Persons(v.ctx, v.t.name, missing)
	})
}

// Person is one user, whatever her state; nil when there is none.
func (v *View) Person(id string) (*belfry.Person, error) {
	if !v.passing {
		if s, known := v.d.persons.get(v.t.name, id); known {
			return s.value, nil
		}
	}
	people, err := v.Persons([]string{id})
	return people[id], err
}

// PersonsByEmail gives the user of each normalised address that has one.
func (v *View) PersonsByEmail(emails []string) (map[string]string, error) {
	// Any change of any user may have moved an address, so what was looked up
	// before the last one is under another key, and ages out.
	prefix := strconv.FormatUint(v.t.userStamp(), 36) + " "
	keys := make([]string, len(emails))
	for i, a := range emails {
		keys[i] = prefix + a
	}
	owners, err := v.d.emails.many(v.t.name, keys, func(missing []string) (map[string]string, error) {
		ask := make([]string, len(missing))
		for i, k := range missing {
			ask[i] = k[len(prefix):]
		}
		found, err := v.d.store.PersonsByEmail(v.ctx, v.t.name, ask)
		if err != nil {
			return nil, err
		}
		out := make(map[string]string, len(found))
		for a, id := range found {
			out[prefix+a] = id
		}
		return out, nil
	})
	if err != nil {
		return nil, err
	}
	out := make(map[string]string, len(owners))
	for k, id := range owners {
		out[k[len(prefix):]] = id
	}
	return out, nil
}

// UserIDs are the ids of active users after after, sorted.
func (v *View) UserIDs(after string, limit int) ([]string, error) {
	return v.d.store.UserIDs(v.ctx, v.t.name, after, limit)
}

// Steps are steps of workflows, the latest first. They are not cached: an event
// that has one changes its object's history.
func (v *View) Steps(q belfry.StepQuery) ([]belfry.HistoryEntry, string, error) {
	return v.d.store.Steps(v.ctx, v.t.name, q)
}

// memberList is what is cached of a subscription's members.
func (v *View) memberList(subscription string) (*memberList, error) {
	if s, known := v.d.members.get(v.t.name, subscription); known {
		return s.value, nil
	}
	found, err := v.d.members.many(v.t.name, []string{subscription}, func([]string) (map[string]*memberList, error) {
		ms, err := v.d.store.Members(v.ctx, v.t.name, subscription, "", fewMembers+1)
		if err != nil {
			return nil, err
		}
		l := &memberList{}
		if len(ms) <= fewMembers {
			l.complete, l.few = true, ms
			for i := range ms {
				if n := len(l.principals); n == 0 || l.principals[n-1] != ms[i].Principal {
					l.principals = append(l.principals, ms[i].Principal)
				}
			}
		}
		return map[string]*memberList{subscription: l}, nil
	})
	return found[subscription], err
}

// Members are a subscription's members after after, in order of principals.
func (v *View) Members(subscription, after string, limit int) ([]belfry.Member, error) {
	l, err := v.memberList(subscription)
	if err != nil {
		return nil, err
	}
	if !l.complete {
		return v.d.store.Members(v.ctx, v.t.name, subscription, after, limit)
	}
	from := sort.Search(len(l.few), func(i int) bool { return l.few[i].Principal > after })
	return l.few[from:], nil // few: more than asked for does no harm
}

// MembersAmong are those members of a subscription who are asked for, in order.
func (v *View) MembersAmong(subscription string, who []string) ([]belfry.Member, error) {
	l, err := v.memberList(subscription)
	if err != nil {
		return nil, err
	}
	if l.complete {
		return among(l.few, who, func(m *belfry.Member) string { return m.Principal }), nil
	}
	return v.d.store.MembersAmong(v.ctx, v.t.name, subscription, who)
}

// OptOutsAmong are those of who that opted out of a subscription, in order.
func (v *View) OptOutsAmong(subscription string, who []string) ([]belfry.OptOut, error) {
	if v.d.optOuts == nil {
		return nil, nil
	}
	l, err := v.outList(subscription)
	if err != nil {
		return nil, err
	}
	if l.complete {
		return among(l.few, who, func(o *belfry.OptOut) string { return o.Who }), nil
	}
	return v.d.optOuts.OptOutsAmong(v.ctx, v.t.name, subscription, who)
}

// among are the rows of those who are asked for.
func among[T any](list []T, who []string, name func(*T) string) (out []T) {
	if len(list) == 0 {
		return nil
	}
	asked := make(map[string]bool, len(who))
	for _, id := range who {
		asked[id] = true
	}
	for i := range list {
		if asked[name(&list[i])] {
			out = append(out, list[i])
		}
	}
	return out
}

// OptOuts are who opted out of a subscription, after somebody, in order.
func (v *View) OptOuts(subscription, after string, limit int) ([]belfry.OptOut, error) {
	if v.d.optOuts == nil {
		return nil, nil
	}
	l, err := v.outList(subscription)
	if err != nil {
		return nil, err
	}
	if !l.complete {
		return v.d.optOuts.OptOuts(v.ctx, v.t.name, subscription, after, limit)
	}
	from := sort.Search(len(l.few), func(i int) bool { return l.few[i].Who > after })
	return l.few[from:], nil
}

func (v *View) outList(subscription string) (*outList, error) {
	if s, known := v.d.outs.get(v.t.name, subscription); known {
		return s.value, nil
	}
	found, err := v.d.outs.many(v.t.name, []string{subscription}, func([]string) (map[string]*outList, error) {
		list, err := v.d.optOuts.OptOuts(v.ctx, v.t.name, subscription, "", fewMembers+1)
		if err != nil {
			return nil, err
		}
		l := &outList{}
		if len(list) <= fewMembers {
			l.few, l.complete = list, true
		}
		return map[string]*outList{subscription: l}, nil
	})
	return found[subscription], err
}

// JoinedGroups are the members of a subscription that are groups.
func (v *View) JoinedGroups(subscription string) ([]belfry.Member, error) {
	l, err := v.memberList(subscription)
	if err != nil {
		return nil, err
	}
	if l.complete {
		if len(l.few) == 0 {
			return nil, nil
		}
		groups, err := v.groupsOf(&l.classifier, l.principals)
		if err != nil {
			return nil, err
		}
		have := l.joined.Load()
		if have == nil || !slices.Equal(have.groups, groups) {
			have = &joinedGroups{groups: groups}
			for i := range l.few {
				if _, isGroup := slices.BinarySearch(groups, l.few[i].Principal); isGroup {
					have.members = append(have.members, l.few[i])
				}
			}
			l.joined.Store(have)
		}
		return have.members, nil
	}
	stamp := v.t.groupStamp()
	if have := l.joined.Load(); have != nil && have.stamp == stamp {
		return have.members, nil
	}
	members, err := v.findJoinedGroups(subscription)
	if err != nil {
		return nil, err
	}
	l.joined.Store(&joinedGroups{stamp: stamp, members: members})
	return members, nil
}

// findJoinedGroups looks through a long list of members.
func (v *View) findJoinedGroups(subscription string) ([]belfry.Member, error) {
	if v.d.joined != nil {
		return v.d.joined.JoinedGroups(v.ctx, v.t.name, subscription, resolve.Pseudo)
	}
	var out []belfry.Member
	for after := ""; ; {
		ms, err := v.d.store.Members(v.ctx, v.t.name, subscription, after, 2000)
		if err != nil || len(ms) == 0 {
			return out, err
		}
		ids := make([]string, len(ms))
		for i := range ms {
			ids[i] = ms[i].Principal
		}
		// Past the cache: a million users are not worth remembering as not
		// being groups.
		groups, err := v.d.store.Groups(v.ctx, v.t.name, ids)
		if err != nil {
			return nil, err
		}
		for i := range ms {
			if _, ok := groups[ms[i].Principal]; ok || resolve.IsPseudo(ms[i].Principal) {
				out = append(out, ms[i])
			}
		}
		after = ms[len(ms)-1].Principal
	}
}

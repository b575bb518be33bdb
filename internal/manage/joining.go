package manage

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

// JoiningStore keeps who joined and what was asked for.
type JoiningStore interface {
	Memberships(ctx context.Context, tenant, principal, after string, limit int) ([]belfry.Member, error)
	JoinsOf(ctx context.Context, tenant, subscription, principal string) (joins []belfry.Member, optedOut bool, err error)
	Joins(ctx context.Context, tenant string, keys []belfry.JoinKey, invites bool) (map[belfry.JoinKey]*belfry.Joins, error)
	Ask(ctx context.Context, a belfry.Ask, counts []belfry.AskCount) error
	FindAsk(ctx context.Context, a belfry.Ask) (belfry.Ask, bool, error)
	Asks(ctx context.Context, tenant, subscription, after string, now time.Time, limit int) ([]belfry.Ask, error)
	AskStanding(ctx context.Context, a belfry.Ask, mails belfry.AskCount, now time.Time) (belfry.AskStanding, error)
	SettleAsk(ctx context.Context, a belfry.Ask, drop bool, sent *belfry.AskCount, now time.Time) error
}

// Roles says who holds a role.
type Roles interface {
	// Lacks is why a user may not join at an object: she is not active, may not
	// see it, or holds none of the roles there or above; nil when she may.
	// Without roles none is needed.
	Lacks(ctx context.Context, tenant, object, user string, roles []string) (*belfry.Reason, error)
}

// noRoles is a server that knows of nobody's roles.
type noRoles struct{}

func (noRoles) Lacks(_ context.Context, _, _, user string, _ []string) (*belfry.Reason, error) {
	return &belfry.Reason{Code: belfry.UserUnknown, Detail: user}, nil
}

// JoiningTerms bound what people without a key can make the server do.
type JoiningTerms struct {
	Answer     time.Duration // how long a link that confirms works
	PerAddress int           // messages about joining to one address in a day
	PerClient  int           // asks of one client in an hour
	PerTenant  int           // asks of all in an hour
}

// DefaultJoining are the terms of a server nobody configured.
func DefaultJoining() JoiningTerms {
	return JoiningTerms{Answer: 72 * time.Hour, PerAddress: 5, PerClient: 20, PerTenant: 1000}
}

// Joiner is who joins or leaves by themselves: a user, or an address.
type Joiner struct {
	User      string            `json:"user,omitempty" doc:"The user who asks for it herself"`
	Email     string            `json:"email,omitempty" doc:"Or an address; the answer is the same whether it is known or not"`
	Object    string            `json:"object,omitempty" doc:"Where to join: it counts for that object and what is below. Empty: the whole scope"`
	Channels  []string          `json:"channels,omitempty" doc:"Of a user; empty = her own choice"`
	Frequency *belfry.Frequency `json:"frequency,omitempty" doc:"Of a user; absent = as she prefers"`
	Client    string            `json:"client,omitempty" doc:"Network address of the visitor, by which asks for addresses are bounded"`
}

// What became of a request to join or leave.
const (
	Joined = "joined"
	Left   = "left"
	Asked  = "asked" // the address is asked by mail, if there is something to ask
)

// JoinAnswer says what became of it.
type JoinAnswer struct {
	State  string         `json:"state" enum:"joined,left,asked" doc:"asked: the address is asked to confirm by mail, if there is anything to confirm"`
	Member *belfry.Member `json:"member,omitempty"`
}

const (
	maxFollow = 20
	maxInvite = 1000
)

// checkJoining refuses what cannot be meant.
func checkJoining(f *faults, p string, j *belfry.Joining) {
	f.who(p, j.Who, j.Roles, "join")
	if j.Who == belfry.JoinNone {
		j.Who = ""
	}
	if len(j.Follow) > maxFollow {
		f.add(p+"/follow", "has %d entries: at most %d are allowed", len(j.Follow), maxFollow)
		return
	}
	for i := range j.Follow {
		checkFollow(f, p+"/follow/"+strconv.Itoa(i), &j.Follow[i])
	}
}

func checkFollow(f *faults, p string, t *belfry.Participation) {
	if len(t.Types) == 0 || len(t.Types) > maxTypes {
		f.add(p+"/types", "names the event types that count: 1 to %d", maxTypes)
		return
	}
	for i, typ := range t.Types {
		f.pattern(p+"/types/"+strconv.Itoa(i), typ)
	}
	f.line(p+"/who", t.Who, maxType)
	switch {
	case t.Who == belfry.Everybody && !t.Leave:
		f.add(p+"/who", "* is everybody who joined there, so it goes with \"leave\":true only")
	case t.Who != belfry.Everybody && badPath(t.Who):
		f.add(p+"/who", "is actor, related, or names in the event's data with dots between them, as in assignee.id")
	}
}

// joinable is a subscription that may be joined at an object, which it gives as
// it is stored.
func (m *Manager) joinable(ctx context.Context, tenant, subscription string, j *Joiner) (belfry.Subscription, string, error) {
	f := &faults{}
	if (j.User == "") == (j.Email == "") {
		f.add("/user", "give a user, or an email")
	}
	f.line("/user", j.User, maxID)
	f.line("/object", j.Object, maxID)
	f.line("/client", j.Client, 100)
	if j.Email != "" {
		f.email("/email", j.Email)
		if len(j.Channels) > 0 || j.Frequency != nil {
			f.add("/email", "an address is told by e-mail: leave out channels and frequency")
		}
	}
	f.frequency("/frequency", j.Frequency)
	m.checkChannels(f, tenant, "/channels", j.Channels)
	if err := f.err(); err != nil {
		return belfry.Subscription{}, "", err
	}
	sub, err := m.living(ctx, tenant, subscription, nil)
	if err != nil {
		return sub, "", err
	}
	at := joinedAt(&sub, j.Object)
	if at != "" {
		within, err := m.within(ctx, tenant, &sub, []string{at})
		if err != nil {
			return sub, "", err
		}
		if fault := within[at]; fault != "" {
			f.add("/object", "%s", fault)
		}
	}
	return sub, at, f.err()
}

// mayJoin refuses a user whom the subscription does not let in at an object.
func (m *Manager) mayJoin(ctx context.Context, tenant string, j *belfry.Joining, user, object, what string) error {
	var roles []string
	switch j.Who {
	case "", belfry.JoinNone:
		return belfry.Errorf(belfry.Forbidden, "nobody joins %s by themselves: an administrator adds members", what)
	case belfry.JoinRoles:
		roles = j.Roles
	}
	why, err := m.roles.Lacks(ctx, tenant, object, user, roles)
	if err == nil && why != nil {
		if why.Code == belfry.UserUnknown {
			return belfry.Faults([]belfry.Field{{Pointer: "/user", Message: "there is no user " + strconv.Quote(user)}})
		}
		if len(roles) > 0 && why.Code == belfry.MayNotSee {
			return belfry.Errorf(belfry.Forbidden, "%s is joined by holders of %s there: %s is none", what, strings.Join(roles, ", "), user)
		}
		return belfry.Errorf(belfry.Forbidden, "%s may not join %s: %s", user, what, why.Text())
	}
	return err
}

// subscribers checks who may subscribe to a type.
func (f *faults) subscribers(p string, s *belfry.Subscribers) {
	f.who(p, s.Who, s.Roles, "subscribe")
}

// who checks who may do something, and by which roles.
func (f *faults) who(p, who string, roles []string, do string) {
	if who != "" {
		f.choice(p+"/who", who, belfry.JoinNone, belfry.JoinMembers, belfry.JoinRoles, belfry.JoinAnyone)
	}
	switch {
	case who == belfry.JoinRoles && len(roles) == 0:
		f.add(p+"/roles", "name the roles that may %s", do)
	case who != belfry.JoinRoles && len(roles) > 0:
		f.add(p+"/roles", "is read with \"who\":\"roles\" only: leave it out, or say so")
	case len(roles) > 100:
		f.add(p+"/roles", "has %d entries: at most 100 are allowed", len(roles))
	default:
		keyList(f, p+"/roles", roles)
	}
}

// namedTypes gives each type that a subscription names, whole, and that the catalogue
// has. A prefix stands for whatever an administrator lets in with it.
func (m *Manager) namedTypes(ctx context.Context, tenant string, sub *belfry.Subscription, each func(*belfry.EventType) error) error {
	for _, name := range sub.Types {
		if strings.HasSuffix(name, "*") {
			continue
		}
		t, _, err := m.EventType(ctx, tenant, name)
		if belfry.KindOf(err) == belfry.NotFound {
			continue
		}
		if err == nil {
			err = each(&t)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// maySubscribe refuses a user whom one of a subscription's event types does not
// let subscribe by herself.
func (m *Manager) maySubscribe(ctx context.Context, tenant string, sub *belfry.Subscription, user, object string) error {
	return m.namedTypes(ctx, tenant, sub, func(t *belfry.EventType) error {
		if t.Subscribe.Who == "" {
			return nil
		}
		return m.mayJoin(ctx, tenant, &belfry.Joining{Who: t.Subscribe.Who, Roles: t.Subscribe.Roles}, user, object, "event type "+t.Name)
	})
}

// openToAddresses refuses addresses where the subscription, or one of its event
// types, is not for them.
func (m *Manager) openToAddresses(ctx context.Context, tenant string, sub *belfry.Subscription) error {
	if sub.Joining.Who != belfry.JoinAnyone {
		return belfry.Errorf(belfry.Forbidden, "subscription %s is not open to addresses: it is when joining.who is anyone", sub.ID)
	}
	return m.namedTypes(ctx, tenant, sub, func(t *belfry.EventType) error {
		if t.Subscribe.Who != "" && t.Subscribe.Who != belfry.JoinAnyone {
			return belfry.Errorf(belfry.Forbidden, "event type %s is not open to addresses: it is when its subscribe.who is anyone", t.Name)
		}
		return nil
	})
}

// Join adds who asks for it, if the subscription lets them in. An address is
// asked to confirm; whether it is known cannot be told from the answer.
func (m *Manager) Join(ctx context.Context, by By, subscription string, j Joiner) (JoinAnswer, error) {
	sub, at, err := m.joinable(ctx, by.Tenant, subscription, &j)
	if err != nil {
		return JoinAnswer{}, err
	}
	if j.Email != "" {
		return m.ask(ctx, by, &sub, at, belfry.AskJoin, &j)
	}
	where := at
	if where == "" {
		where = sub.ScopeObject()
	}
	if err := m.mayJoin(ctx, by.Tenant, &sub.Joining, j.User, where, "subscription "+sub.ID); err != nil {
		return JoinAnswer{}, err
	}
	if err := m.maySubscribe(ctx, by.Tenant, &sub, j.User, where); err != nil {
		return JoinAnswer{}, err
	}
	mb := belfry.Member{Subscription: sub.ID, Principal: j.User, Object: at, Channels: j.Channels, Frequency: j.Frequency, Since: m.now()}
	ch, err := m.joins(ctx, by, &sub, mb, "members.join")
	if err != nil {
		return JoinAnswer{}, err
	}
	_, err = m.store.Apply(ctx, ch)
	return JoinAnswer{State: Joined, Member: &mb}, err
}

// joins is the edit by which somebody becomes a member; who is one already is
// not greeted again.
func (m *Manager) joins(ctx context.Context, by By, sub *belfry.Subscription, mb belfry.Member, action string) (belfry.Changes, error) {
	ch := m.change(by, action, sub.ID)
	ch.Audit[0].Detail = mb.Principal
	have, out, err := m.store.JoinsOf(ctx, by.Tenant, sub.ID, mb.Principal)
	if err != nil {
		return ch, err
	}
	ch.Members = []belfry.Member{mb}
	ch.DropOptOuts = []belfry.OptOut{{Subscription: sub.ID, Who: mb.Principal}}
	again := !out && slices.ContainsFunc(have, func(h belfry.Member) bool { return h.Object == mb.Object })
	if sub.Joining.Greets() && !again {
		ch.Asks = []belfry.Ask{m.newAsk(by, sub.ID, mb.Principal, mb.Object, belfry.AskWelcome)}
	}
	return ch, nil
}

// Leave takes out who asks for it: of one join, or, without an object, of the
// whole subscription, whatever else names them.
func (m *Manager) Leave(ctx context.Context, by By, subscription string, j Joiner) (JoinAnswer, error) {
	sub, at, err := m.joinable(ctx, by.Tenant, subscription, &j)
	if err != nil {
		return JoinAnswer{}, err
	}
	if sub.Mandatory {
		return JoinAnswer{}, belfry.Errorf(belfry.Conflict, "subscription %s is mandatory: nobody leaves it", sub.ID)
	}
	if j.Email != "" {
		return m.ask(ctx, by, &sub, at, belfry.AskLeave, &j)
	}
	who, err := m.principals(ctx, by.Tenant, []string{j.User})
	if err != nil {
		return JoinAnswer{}, err
	}
	if !who[j.User] {
		return JoinAnswer{}, belfry.Faults([]belfry.Field{{Pointer: "/user", Message: "there is no user " + strconv.Quote(j.User)}})
	}
	ch, err := m.leaves(ctx, by, &sub, j.User, at)
	if err != nil {
		return JoinAnswer{}, err
	}
	_, err = m.store.Apply(ctx, ch)
	return JoinAnswer{State: Left}, err
}

// leaves is the edit by which somebody leaves. Who was no member, and opted out
// before, is told nothing.
func (m *Manager) leaves(ctx context.Context, by By, sub *belfry.Subscription, who, at string) (belfry.Changes, error) {
	ch := m.change(by, "members.leave", sub.ID)
	ch.Audit[0].Detail = who
	have, out, err := m.store.JoinsOf(ctx, by.Tenant, sub.ID, who)
	if err != nil {
		return ch, err
	}
	if at != "" {
		ch.DropMembers = []belfry.Member{{Subscription: sub.ID, Principal: who, Object: at}}
		have = slices.DeleteFunc(have, func(h belfry.Member) bool { return h.Object != at })
	} else {
		ch.OptOuts = []belfry.OptOut{{Subscription: sub.ID, Who: who, Since: m.now()}}
	}
	if sub.Joining.Greets() && len(have) > 0 && !out {
		ch.Asks = []belfry.Ask{m.newAsk(by, sub.ID, who, at, belfry.AskGoodbye)}
	}
	return ch, nil
}

// newAsk is an ask that is due now.
func (m *Manager) newAsk(by By, subscription, who, object string, kind belfry.AskKind) belfry.Ask {
	now := m.now()
	return belfry.Ask{Tenant: by.Tenant, ID: belfry.NewID(belfry.AskPrefix, now), Who: who, Subscription: subscription, Object: object, Kind: kind,
		By: by.Who, Asked: now, Due: now, Until: now.Add(m.joining.Answer)}
}

// ask notes that an address asked for something. What is done about it is
// decided afterwards (Consider): the same work is done here for every address,
// so that neither the answer nor its time says anything about it.
func (m *Manager) ask(ctx context.Context, by By, sub *belfry.Subscription, at string, kind belfry.AskKind, j *Joiner) (JoinAnswer, error) {
	if kind == belfry.AskJoin {
		if err := m.openToAddresses(ctx, by.Tenant, sub); err != nil {
			return JoinAnswer{}, err
		}
	}
	if !m.channels.Known(by.Tenant, "email") {
		return JoinAnswer{}, belfry.Errorf(belfry.Conflict, "there is no channel email to ask the address by: set it up first")
	}
	counts := []belfry.AskCount{{Who: "tenant", Span: time.Hour, Most: m.joining.PerTenant}}
	if c := clientOf(j.Client); c != "" {
		counts = append([]belfry.AskCount{{Who: countOf("client", c), Span: time.Hour, Most: m.joining.PerClient}}, counts...)
	}
	a := m.newAsk(by, sub.ID, belfry.NormaliseEmail(j.Email), at, kind)
	a.By = ""
	return JoinAnswer{State: Asked}, m.store.Ask(ctx, a, counts)
}

// countOf is under what something is counted: it need not be known who it is.
func countOf(what, who string) string {
	sum := sha256.Sum256([]byte(who))
	return what + " " + hex.EncodeToString(sum[:12])
}

// clientOf is by what a client is counted: a network of IPv6 is one, since a
// host has all of it.
func clientOf(s string) string {
	a, err := netip.ParseAddr(s)
	if err != nil {
		return s
	}
	a = a.Unmap().WithZone("")
	if a.Is6() {
		if p, err := a.Prefix(64); err == nil {
			return p.String()
		}
	}
	return a.String()
}

// Invitation asks people and addresses whether they want to join.
type Invitation struct {
	Users  []string `json:"users,omitempty"`
	Emails []string `json:"emails,omitempty"`
	Object string   `json:"object,omitempty" doc:"Where they would join; empty = the whole scope"`
}

// Invite asks people and addresses whether they want to join; whoever says so
// by the link does, whoever may join by themselves. Those who are members
// already are not asked.
func (m *Manager) Invite(ctx context.Context, by By, subscription string, v Invitation) (int, error) {
	f := &faults{}
	if n := len(v.Users) + len(v.Emails); n == 0 || n > maxInvite {
		f.add("", "name 1 to %d users and emails", maxInvite)
		return 0, f.err()
	}
	keys(f, "/users", v.Users)
	emails(f, "/emails", v.Emails)
	f.line("/object", v.Object, maxID)
	if err := f.err(); err != nil {
		return 0, err
	}
	sub, err := m.living(ctx, by.Tenant, subscription, nil)
	if err != nil {
		return 0, err
	}
	at := joinedAt(&sub, v.Object)
	within, err := m.within(ctx, by.Tenant, &sub, distinct([]string{at}))
	if err != nil {
		return 0, err
	}
	if fault := within[at]; fault != "" {
		f.add("/object", "%s", fault)
	}
	who, err := m.principals(ctx, by.Tenant, v.Users)
	if err != nil {
		return 0, err
	}
	for i, u := range v.Users {
		if !who[u] {
			f.add("/users/"+strconv.Itoa(i), "there is no user %q", u)
		}
	}
	if len(v.Emails) > 0 && !m.channels.Known(by.Tenant, "email") {
		f.add("/emails", "cannot be asked: there is no channel email")
	}
	if err := f.err(); err != nil {
		return 0, err
	}
	ch := m.change(by, "members.invite", sub.ID)
	all := slices.Clone(v.Users)
	for _, e := range v.Emails {
		all = append(all, belfry.NormaliseEmail(e))
	}
	all = distinct(all)
	for _, w := range all {
		ch.Asks = append(ch.Asks, m.newAsk(by, sub.ID, w, at, belfry.AskInvite))
	}
	_, ch.Audit[0].Detail = batchTarget(all, func(s *string) string { return *s })
	_, err = m.store.Apply(ctx, ch)
	return len(all), err
}

// PendingJoin is something that waits for somebody's answer.
type PendingJoin struct {
	Who    string    `json:"who"`
	Object string    `json:"object,omitempty"`
	For    string    `json:"for" enum:"join,leave,invitation"`
	By     string    `json:"by,omitempty" doc:"Who invited"`
	Asked  time.Time `json:"asked"`
	Until  time.Time `json:"until" doc:"No answer is taken after it"`
	Sent   bool      `json:"sent" doc:"False while it waits to be sent: one message at a time waits for an address's answer"`
}

var askWords = map[belfry.AskKind]string{belfry.AskJoin: "join", belfry.AskLeave: "leave", belfry.AskInvite: "invitation"}

// PendingJoins lists what waits for an answer, by whose it is.
func (m *Manager) PendingJoins(ctx context.Context, tenant, subscription, after string, limit int) ([]PendingJoin, string, error) {
	if _, ok, err := m.store.Subscription(ctx, tenant, subscription); err != nil || !ok {
		if err == nil {
			err = notFound("subscription", subscription)
		}
		return nil, "", err
	}
	if limit <= 0 || limit > 1000 {
		limit = 100
	}
	asks, err := m.store.Asks(ctx, tenant, subscription, after, m.now(), limit+1)
	if err != nil {
		return nil, "", err
	}
	next := ""
	if len(asks) > limit {
		// What one recipient has does not go over a page's end.
		for n := limit; n > 0; n-- {
			if asks[n-1].Who != asks[n].Who {
				asks, next = asks[:n], asks[n-1].Who
				break
			}
		}
	}
	out := make([]PendingJoin, len(asks))
	for i, a := range asks {
		out[i] = PendingJoin{Who: a.Who, Object: a.Object, For: askWords[a.Kind], By: a.By, Asked: a.Asked, Until: a.Until, Sent: a.Due.IsZero()}
	}
	return out, next, nil
}

// askEvents are the types of the events by which they are told.
var askEvents = map[belfry.AskKind]string{
	belfry.AskJoin: belfry.EventConfirm, belfry.AskLeave: belfry.EventLeaving, belfry.AskInvite: belfry.EventInvited, belfry.AskWelcome: belfry.EventJoined, belfry.AskGoodbye: belfry.EventLeft,
}

// AskRef is what a link that answers an ask carries, and what its event says.
type AskRef struct {
	ID           string         `json:"id"`
	Who          string         `json:"who"`
	Subscription string         `json:"subscription"`
	Object       string         `json:"object,omitempty"`
	Kind         belfry.AskKind `json:"kind"`
	Until        time.Time      `json:"until"`
}

// askData is the data of an event about joining.
type askData struct {
	AskRef
	Title string `json:"title"`
	Place string `json:"place,omitempty"`
}

// AskOf reads what an event about joining asks; false when it asks nothing.
func AskOf(e *belfry.Event) (AskRef, bool) {
	var d askData
	if e.Source != belfry.OwnSource || json.Unmarshal(e.Data, &d) != nil {
		return AskRef{}, false
	}
	return d.AskRef, askEvents[d.Kind] == e.Type && d.ID == e.ID && d.Kind.Answered()
}

// Considered is what is to be done of an ask: an event to be accepted, if any,
// and then Settle.
type Considered struct {
	Event  *belfry.Event
	Settle func(ctx context.Context) error
}

// Consider decides what becomes of an ask that is due. Asking again after the
// event was accepted gives the same event.
func (m *Manager) Consider(ctx context.Context, a belfry.Ask) (Considered, error) {
	now := m.now()
	mails := belfry.AskCount{Who: countOf("to", a.Who), Span: 24 * time.Hour, Most: m.joining.PerAddress}
	drop := Considered{Settle: func(ctx context.Context) error { return m.store.SettleAsk(ctx, a, true, nil, now) }}
	later := func(t time.Time) Considered {
		if !t.Before(a.Until) || !a.Kind.Answered() {
			return drop
		}
		a.Due = t
		return Considered{Settle: func(ctx context.Context) error { return m.store.SettleAsk(ctx, a, false, nil, now) }}
	}
	sub, found, err := m.store.Subscription(ctx, a.Tenant, a.Subscription)
	if err != nil {
		return Considered{}, err
	}
	if !found || sub.State == belfry.SubscriptionEnded || !now.Before(a.Until) {
		return drop, nil
	}
	st, err := m.store.AskStanding(ctx, a, mails, now)
	if err != nil {
		return Considered{}, err
	}
	by := By{Tenant: a.Tenant, Who: a.Who}
	edit := func(ch belfry.Changes, err error) (Considered, error) {
		ch.DropAsks = []belfry.Ask{a}
		return Considered{Settle: func(ctx context.Context) error {
			_, err := m.store.Apply(ctx, ch)
			if belfry.KindOf(err) == belfry.Stale {
				return nil // somebody else did
			}
			return err
		}}, err
	}
	switch a.Kind {
	case belfry.AskJoin:
		if st.Member && !st.OptedOut {
			return drop, nil
		}
		if err := m.openToAddresses(ctx, a.Tenant, &sub); belfry.KindOf(err) == belfry.Forbidden {
			return drop, nil
		} else if err != nil {
			return Considered{}, err
		}
		if !sub.Joining.Confirms() {
			return edit(m.joins(ctx, by, &sub, m.memberOf(&a), "members.join"))
		}
	case belfry.AskLeave:
		if st.OptedOut && !st.Anywhere || !st.Anywhere && !addressed(&sub, a.Who) {
			return drop, nil
		}
		if !sub.Joining.Confirms() {
			return edit(m.leaves(ctx, by, &sub, a.Who, a.Object))
		}
	case belfry.AskInvite:
		if st.Member && !st.OptedOut {
			return drop, nil
		}
	}
	bounded := a.Kind.Answered() || belfry.IsAddress(a.Who)
	switch {
	case a.Kind.Answered() && !st.Blocked.IsZero():
		return later(st.Blocked.Add(time.Microsecond)), nil
	case bounded && !st.Spent.IsZero():
		return later(st.Spent), nil
	}
	e, until, err := m.askEvent(ctx, &a, &sub, now)
	if err != nil {
		return Considered{}, err
	}
	return Considered{Event: e, Settle: func(ctx context.Context) error {
		sent := &mails
		if !bounded {
			sent = nil
		}
		a.Due, a.Until = time.Time{}, until
		return m.store.SettleAsk(ctx, a, !a.Kind.Answered(), sent, now)
	}}, nil
}

// askEvent is the event by which the recipient of an ask is told.
func (m *Manager) askEvent(ctx context.Context, a *belfry.Ask, sub *belfry.Subscription, now time.Time) (*belfry.Event, time.Time, error) {
	// A time that follows from the ask: when it is made again after a crash it
	// is the same one.
	until := a.Due.Add(m.joining.Answer)
	d := askData{AskRef: AskRef{ID: a.ID, Who: a.Who, Subscription: sub.ID, Object: a.Object, Kind: a.Kind, Until: until}, Title: sub.Title}
	if d.Title == "" {
		d.Title = sub.ID
	}
	if a.Object != "" {
		objects, err := m.store.Objects(ctx, a.Tenant, []string{a.Object})
		if err != nil {
			return nil, until, err
		}
		if d.Place = objects[a.Object].Title; d.Place == "" {
			d.Place = a.Object
		}
	}
	data, err := json.Marshal(d)
	return &belfry.Event{ID: a.ID, Source: belfry.OwnSource, Type: askEvents[a.Kind], Time: now, Related: []string{a.Who}, Data: data}, until, err
}

func (m *Manager) memberOf(a *belfry.Ask) belfry.Member {
	mb := belfry.Member{Subscription: a.Subscription, Principal: a.Who, Object: a.Object, Since: m.now()}
	if a.Kind == belfry.AskInvite {
		mb.By = a.By
	}
	return mb
}

// addressed reports whether a subscription names an address itself.
func addressed(sub *belfry.Subscription, address string) bool {
	for i := range sub.Recipients {
		if e := sub.Recipients[i].Explicit; e != nil && slices.ContainsFunc(e.Emails, func(x string) bool { return belfry.NormaliseEmail(x) == address }) {
			return true
		}
	}
	return false
}

// States of a link that answers an ask.
const (
	OfferOpen   = "open"
	OfferDone   = "done"
	OfferClosed = "closed" // addresses may not join any more, or not now
)

// JoinOffer is what such a link would do, or has done.
type JoinOffer struct {
	State string
	Leave bool
	Title string // of the subscription
	Place string // where it is joined; empty = the whole scope
	Who   string
}

// Offer says what a link would do; NotFound when it is over, or was never made.
func (m *Manager) Offer(ctx context.Context, tenant string, ref AskRef) (JoinOffer, error) {
	o, _, _, err := m.offer(ctx, tenant, ref)
	return o, err
}

func (m *Manager) offer(ctx context.Context, tenant string, ref AskRef) (o JoinOffer, a belfry.Ask, sub belfry.Subscription, err error) {
	gone := belfry.Errorf(belfry.NotFound, "this link is not valid, or no longer")
	if !ref.Kind.Answered() {
		return o, a, sub, gone
	}
	sub, ok, err := m.store.Subscription(ctx, tenant, ref.Subscription)
	if err != nil || !ok || sub.State == belfry.SubscriptionEnded {
		if err == nil {
			err = gone
		}
		return o, a, sub, err
	}
	o = JoinOffer{State: OfferOpen, Leave: ref.Kind == belfry.AskLeave, Title: sub.Title, Who: ref.Who}
	if o.Title == "" {
		o.Title = sub.ID
	}
	if ref.Object != "" {
		objects, err := m.store.Objects(ctx, tenant, []string{ref.Object})
		if err != nil {
			return o, a, sub, err
		}
		if o.Place = objects[ref.Object].Title; o.Place == "" {
			o.Place = ref.Object
		}
	}
	a = belfry.Ask{Tenant: tenant, ID: ref.ID, Who: ref.Who, Subscription: ref.Subscription, Object: ref.Object, Kind: ref.Kind}
	stored, ok, err := m.store.FindAsk(ctx, a)
	if err != nil {
		return o, a, sub, err
	}
	// Who has the link was sent it, though that may not be noted yet.
	if !ok || stored.ID != ref.ID || !m.now().Before(ref.Until) {
		joins, out, err := m.store.JoinsOf(ctx, tenant, sub.ID, ref.Who)
		if err != nil {
			return o, a, sub, err
		}
		here := !out && slices.ContainsFunc(joins, func(j belfry.Member) bool { return j.Object == ref.Object })
		if o.State = OfferDone; here == o.Leave {
			return o, a, sub, gone
		}
		return o, a, sub, nil
	}
	if ref.Kind == belfry.AskJoin {
		switch err := m.openToAddresses(ctx, tenant, &sub); {
		case belfry.KindOf(err) == belfry.Forbidden:
			o.State = OfferClosed // it stays pending
		case err != nil:
			return o, a, sub, err
		}
	}
	return o, stored, sub, nil
}

// Answer does what a link says; doing it again changes nothing.
func (m *Manager) Answer(ctx context.Context, tenant string, ref AskRef) (JoinOffer, error) {
	o, a, sub, err := m.offer(ctx, tenant, ref)
	if err != nil || o.State != OfferOpen {
		return o, err
	}
	by := By{Tenant: tenant, Who: ref.Who}
	var ch belfry.Changes
	if o.Leave {
		ch, err = m.leaves(ctx, by, &sub, a.Who, a.Object)
	} else {
		ch, err = m.joins(ctx, by, &sub, m.memberOf(&a), "members.confirm")
	}
	if err != nil {
		return o, err
	}
	ch.DropAsks = []belfry.Ask{a}
	if _, err = m.store.Apply(ctx, ch); belfry.KindOf(err) == belfry.Stale {
		return m.Offer(ctx, tenant, ref) // the other of two clicks did it
	}
	o.State = OfferDone
	return o, err
}

func (t JoiningTerms) check() error {
	if t.Answer <= 0 || t.PerAddress <= 0 || t.PerClient <= 0 || t.PerTenant <= 0 {
		return fmt.Errorf("manage: Options.Joining has a bound that is not above 0: %+v", t)
	}
	return nil
}

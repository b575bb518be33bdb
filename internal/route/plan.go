package route

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/expr"
)

// ContactEmail is the kind of contact of e-mail channels, the only ones that
// reach somebody of whom nothing but an address is known.
const ContactEmail = "email"

// ChannelInfo is what route needs to know of a channel that is set up.
type ChannelInfo struct {
	Name    string
	Kind    string
	Contact string // kind of contact it sends to; empty = to the person (inbox)
	Every   bool   // tells every usable contact (devices), not only the first
}

// Input is all that Plan looks at. Nothing in it is changed.
type Input struct {
	Event      *belfry.Accepted
	Run        int
	Recipients []belfry.Recipient
	Dropped    []belfry.Dropped
	Persons    map[string]*belfry.Person   // of Recipients
	Channels   []ChannelInfo               // those set up, in the order deliveries are listed
	Type       belfry.EventType            // zero when the catalogue has none
	Defaults   []string                    // the tenant's channels
	Often      *belfry.Frequency           // the tenant's; nil = immediately
	Throttled  map[Throttled]belfry.Reason // who is told by a subscription in the inbox alone
	Fallback   []string                    // the tenant's channels, when another has failed
	Ancestors  []belfry.Object             // the event's object first, the root last
	Endpoints  map[string]*belfry.Endpoint
	Actor      *belfry.User // who did it, for expressions of messages; nil = not known
	Now        time.Time
}

// Throttled is a person whom a subscription has told often enough.
type Throttled struct{ Principal, Subscription string }

// throttled is why a way is for the inbox alone; nil when it is not.
func (p *plan) throttled(r *belfry.Recipient, via *belfry.Via) *belfry.Reason {
	if len(p.in.Throttled) == 0 || via.Match == nil {
		return nil
	}
	if why, is := p.in.Throttled[Throttled{r.Principal, via.Match.Subscription.ID}]; is {
		return &why
	}
	return nil
}

// Plan makes the deliveries and suppressions of one page of recipients. Each
// suppression's last reason decided; those before it name the recipient.
// Reasons may be shared between results: read only.
//
// A recipient who comes by a subscription that is kept apart (merge false) has
// messages of its own on every channel: the ids of its deliveries are computed
// from the channel, a NUL and the subscription instead of the channel alone.
func Plan(in Input) ([]belfry.Delivery, []belfry.Suppression) {
	p := &plan{
		in:       &in,
		channels: make(map[string]*ChannelInfo, len(in.Channels)),
		ids:      make(map[string]string, len(in.Recipients)),
		named:    map[namedKey][]belfry.Reason{},
	}
	p.deliveries = make([]belfry.Delivery, 0, len(in.Recipients))
	for i := range in.Channels {
		p.channels[in.Channels[i].Name] = &in.Channels[i]
	}
	for i := range in.Recipients {
		r := &in.Recipients[i]
		switch {
		case r.Endpoint != "":
			p.endpoint(r)
		case r.Address != "":
			p.address(r)
		default:
			p.person(r)
		}
	}
	for i := range in.Dropped {
		d := &in.Dropped[i]
		s := belfry.Suppression{Principal: d.Principal, Address: d.Address, Because: d.Because}
		if len(d.Because) > 0 {
			switch d.Because[0].Code {
			case belfry.NamedEndpoint:
				s.Channel = belfry.ChannelWebhook
			case belfry.NamedScript:
				s.Channel, _ = belfry.ScriptOf(d.Address)
			}
		}
		p.suppressions = append(p.suppressions, s)
	}
	return p.deliveries, p.suppressions
}

type plan struct {
	in           *Input
	channels     map[string]*ChannelInfo
	deliveries   []belfry.Delivery
	suppressions []belfry.Suppression
	ids          map[string]string // delivery id -> principal or address that has it
	named        map[namedKey][]belfry.Reason
	vars         *expr.Vars // of expressions of messages, made when one needs them
	hers         hers       // of the person at hand
	alike        map[waysKey]choices
}

// namedKey is a combination of reasons; people named in the same way share it.
type namedKey struct {
	first    *belfry.Reason // of the only way, or
	via      *belfry.Via    // of several ways
	n        int
	decision belfry.Reason
	override belfry.Reason
	digest   belfry.Reason
}

// because are the reasons that name r, of the leading subscription first, and
// the deciding ones.
func (p *plan) because(r *belfry.Recipient, decision, override belfry.Reason) []belfry.Reason {
	return p.reasons(r, decision, override, belfry.Reason{})
}

func (p *plan) reasons(r *belfry.Recipient, decision, override, digest belfry.Reason) []belfry.Reason {
	key := namedKey{n: len(r.Via), decision: decision, override: override, digest: digest}
	if len(r.Via) == 1 && len(r.Via[0].Because) > 0 {
		key.first = &r.Via[0].Because[0]
		key.n = -len(r.Via[0].Because)
	} else if len(r.Via) > 0 {
		key.via = &r.Via[0]
	}
	if all, ok := p.named[key]; ok {
		return all
	}
	var all []belfry.Reason
	for i := range r.Via {
		if i > 0 && r.Via[i].Match == r.Via[i-1].Match {
			continue // another notification of the same subscription
		}
		all = append(all, r.Via[i].Because...)
	}
	if decision.Code != "" {
		all = append(all, decision)
	}
	if override.Code != "" {
		all = append(all, override)
	}
	if digest.Code != "" {
		all = append(all, digest)
	}
	all = slices.Clip(all)
	p.named[key] = all
	return all
}

// lead is the way that gives a message its template and unsubscribe link.
func lead(r *belfry.Recipient) *belfry.Via {
	if len(r.Via) == 0 {
		return &belfry.Via{}
	}
	return &r.Via[0]
}

func (p *plan) suppress(r *belfry.Recipient, channel, address string, why belfry.Reason) {
	if address == "" {
		address = r.Address
	}
	p.suppressions = append(p.suppressions, belfry.Suppression{
		Principal: r.Principal, Channel: channel, Address: address, Because: p.because(r, why, belfry.Reason{}),
	})
}

// deliver adds a delivery unless its address is told already on the channel.
func (p *plan) deliver(r *belfry.Recipient, channel, address, destination string, via *belfry.Via, because []belfry.Reason) {
	p.put(r, channel, address, destination, via, nil, because)
}

// put is deliver; with digest it waits to be told with others.
func (p *plan) put(r *belfry.Recipient, channel, address, destination string, via *belfry.Via, digest *belfry.Bundling, because []belfry.Reason) {
	d := belfry.Delivery{
		Tenant: p.in.Event.Tenant, EventID: p.in.Event.EventID, Run: p.in.Run,
		Channel: channel, Principal: r.Principal, Address: address,
		Destination: destination, Shard: belfry.Shard(p.in.Event.Tenant, destination),
		State: belfry.Scheduled, Due: p.in.Now, Template: via.Notify.Template, Because: because,
	}
	slot := channel
	if via.Match != nil {
		d.Subscription = via.Match.Subscription.ID
		switch {
		case via.Match.Escalation > 0 && channel != belfry.ChannelInbox: // where one entry is enough
			slot = channel + "\x00" + d.Subscription + "\x00" + strconv.Itoa(via.Match.Escalation)
		case !via.Match.Subscription.Merges():
			slot = channel + "\x00" + d.Subscription
		}
	}
	if p.in.Type.Urgent {
		d.Priority = belfry.PriorityUrgent
	}
	if digest != nil {
		d.Digest, d.Due = digest, digest.Least()
	}
	if e := p.in.Endpoints[r.Endpoint]; e != nil && channel == belfry.ChannelWebhook {
		d.Line = e.Line(p.in.Event.Event.ObjectOrRoot())
	}
	if channel == belfry.ChannelInbox {
		d.State = belfry.Delivered // the row itself is the delivery
	}
	if person := p.in.Persons[r.Principal]; person != nil {
		d.Locale = person.User.Locale
	}
	// A replay's delivery is the first run's: a receiver knows a repeat by its
	// id, and nobody gets a second inbox entry.
	d.ID = belfry.DeliveryID(d.EventID, 0, slot, address)
	if other, taken := p.ids[d.ID]; taken {
		if other != destination {
			p.suppress(r, channel, address, belfry.Reason{Code: belfry.SameAddress})
		}
		return
	}
	p.ids[d.ID] = destination
	p.deliveries = append(p.deliveries, d)
}

func (p *plan) forbidden(channel string) bool {
	return slices.Contains(p.in.Type.Channels.Forbidden, channel)
}

// endpoint calls a webhook. A paused endpoint's deliveries wait for it.
func (p *plan) endpoint(r *belfry.Recipient) {
	via := lead(r)
	e := p.in.Endpoints[r.Endpoint]
	if script, ok := belfry.ScriptOf(r.Endpoint); ok && e == nil {
		p.script(r, script, via, belfry.ScriptAddress(script, ""), "")
		return
	}
	switch {
	case p.forbidden(belfry.ChannelWebhook):
		p.suppress(r, belfry.ChannelWebhook, r.Endpoint, belfry.Reason{Code: belfry.ChannelForbidden, Detail: p.in.Event.Event.Type})
	case e == nil:
		p.suppress(r, belfry.ChannelWebhook, r.Endpoint, belfry.Reason{Code: belfry.EndpointUnknown, Detail: r.Endpoint})
	case e.State == belfry.EndpointDisabled:
		p.suppress(r, belfry.ChannelWebhook, r.Endpoint, belfry.Reason{Code: belfry.EndpointIsDisabled, Detail: e.Because})
	default:
		decision := belfry.Reason{Code: belfry.BySubscription}
		if via.Match != nil {
			decision.Subscription = via.Match.Subscription.ID
		}
		p.deliver(r, belfry.ChannelWebhook, r.Endpoint, r.Endpoint, via, p.because(r, decision, belfry.Reason{}))
	}
}

// choice is a channel that something chose, by which way and who decided.
type choice struct {
	channel  string
	via      *belfry.Via
	decision belfry.Reason
	override belfry.Reason // ByMandatory, when it overrode something
	blocked  *belfry.Reason
	often    Often
	because  []belfry.Reason // once it was told by: the reasons of everybody whose choice it is
}

// choices collects what the ways of a recipient chose: the first way that may
// tell by a channel leads there; of several notifications of one subscription
// the one that names the channel gives the template.
type choices []choice

func (cs *choices) add(c choice) {
	for i := range *cs {
		have := &(*cs)[i]
		if have.channel != c.channel {
			continue
		}
		if (have.blocked == nil) == (c.blocked == nil) && c.often.sooner(have.often) {
			have.often = c.often // whatever leads: nobody is kept waiting for another's sake
		}
		better := have.blocked != nil && c.blocked == nil ||
			(have.blocked == nil) == (c.blocked == nil) && have.via.Match == c.via.Match &&
				slices.Contains(c.via.Notify.Channels, c.channel) && !slices.Contains(have.via.Notify.Channels, c.channel)
		if better {
			if have.blocked == nil {
				c.often = have.often
			}
			*have = c
		}
		return
	}
	*cs = append(*cs, c)
}

// person decides the channels of a user.
func (p *plan) person(r *belfry.Recipient) {
	person := p.in.Persons[r.Principal]
	if person == nil {
		p.suppress(r, "", "", belfry.Reason{Code: belfry.UserUnknown})
		return
	}
	if r = p.speaking(r, &person.User); r == nil {
		return
	}
	pref := p.prefer(person)
	block := p.block(r, person, &pref)

	cs := p.chosen(r, person, &pref, block)
	if block == nil {
		block = cs.paused()
	}

	p.hers = hers{pref: &pref, choices: cs}
	told := slices.ContainsFunc(cs, func(c choice) bool { return c.blocked == nil })
	if !told {
		if block != nil && (len(cs) > 0 || !p.allMandatory(r)) {
			p.suppress(r, "", "", *block)
		} else {
			p.suppress(r, "", "", belfry.Reason{Code: belfry.NoChannel})
		}
		return
	}
	// In the order of the channels that are set up, then those that are not.
	for i := range p.in.Channels {
		for k := range cs {
			if cs[k].channel == p.in.Channels[i].Name {
				p.tell(r, person, &p.in.Channels[i], &cs[k])
				break
			}
		}
	}
	for k := range cs {
		if c := &cs[k]; p.channels[c.channel] == nil && !p.stopped(r, c) {
			p.suppress(r, c.channel, "", belfry.Reason{Code: belfry.ChannelUnknown, Detail: c.channel})
		}
	}
}

// chosen are the choices of a person's ways. Those of people who have set
// nothing of their own are decided once for all who come by the same ways.
func (p *plan) chosen(r *belfry.Recipient, person *belfry.Person, pref *Effective, block *belfry.Reason) choices {
	set := &person.Settings
	if len(r.Via) == 0 || len(person.Preferences) > 0 || block != nil || set.Quiet != nil || set.DigestAt != "" || set.DigestWeekday != "" || len(p.in.Throttled) > 0 {
		return p.decide(r, person, pref, block)
	}
	key := waysKey{&r.Via[0], len(r.Via), person.User.TimeZone}
	cs, known := p.alike[key]
	if !known {
		cs = slices.Clip(p.decide(r, person, pref, nil))
		if p.alike == nil {
			p.alike = map[waysKey]choices{}
		}
		p.alike[key] = cs
	}
	return cs
}

// waysKey is what decides for whoever has set nothing: the ways, and by whose
// calendar.
type waysKey struct {
	first *belfry.Via
	n     int
	zone  string
}

func (p *plan) decide(r *belfry.Recipient, person *belfry.Person, pref *Effective, block *belfry.Reason) choices {
	var cs choices
	for i := range r.Via {
		via := &r.Via[i]
		blocked, override := block, belfry.Reason{}
		if block != nil && p.mandatory(via) && !(block.Code == belfry.GlobalStop && person.User.State == belfry.UserDeleted) {
			blocked, override = nil, belfry.Reason{Code: belfry.ByMandatory, Detail: "although " + block.Text()}
		}
		if via.Match != nil && via.Match.Escalation > 0 && override.Code == "" {
			override = escalated(via.Match)
		}
		often := p.often(via, pref)
		often.wait = p.wait(&often, via, person)
		if blocked == nil && often.never() {
			blocked = often.paused()
		}
		channels, decision := p.choose(via, pref)
		if via.Notify.Script != "" {
			often = Often{} // a script is run at once
		}
		enough := p.throttled(r, via)
		for _, c := range channels {
			blocked := blocked
			if blocked == nil && enough != nil && c != belfry.ChannelInbox {
				blocked = enough
			}
			cs.add(choice{channel: c, via: via, decision: decision, override: override, blocked: blocked, often: often})
		}
	}
	for _, c := range p.in.Type.Channels.Forced {
		forced := choice{channel: c, via: lead(r), decision: belfry.Reason{Code: belfry.ByForced, Detail: p.in.Event.Event.Type}}
		if forced.often = p.often(forced.via, pref); forced.often.never() {
			forced.often = Often{}
		}
		forced.often.wait = p.wait(&forced.often, forced.via, person)
		at := slices.IndexFunc(cs, func(have choice) bool { return have.channel == c })
		if at < 0 {
			cs = append(cs, forced)
			continue
		}
		if cs[at].blocked == nil {
			forced.via, forced.often = cs[at].via, cs[at].often
		}
		cs[at] = forced
	}
	return cs
}

// stopped suppresses a choice that forbidding or blocking ends.
func (p *plan) stopped(r *belfry.Recipient, c *choice) bool {
	switch {
	case p.forbidden(c.channel):
		p.suppress(r, c.channel, "", belfry.Reason{Code: belfry.ChannelForbidden, Detail: p.in.Event.Event.Type})
	case c.blocked != nil:
		p.suppress(r, c.channel, "", *c.blocked)
	default:
		return false
	}
	return true
}

func (p *plan) tell(r *belfry.Recipient, person *belfry.Person, ch *ChannelInfo, c *choice) {
	if p.stopped(r, c) {
		return
	}
	if c.because == nil {
		c.because = p.reasons(r, c.decision, c.override, c.often.digest())
	}
	because := c.because
	if ch.Kind == belfry.KindScript && c.via.Notify.Script == ch.Name {
		p.deliver(r, ch.Name, belfry.ScriptAddress(ch.Name, r.Principal), belfry.ScriptAddress(ch.Name, ""), c.via, p.because(r, c.decision, c.override))
		return
	}
	if ch.Name == belfry.ChannelWebhook || ch.Kind == belfry.KindScript {
		// Endpoints and scripts are named by subscriptions; a person has none.
		p.suppress(r, ch.Name, "", belfry.Reason{Code: belfry.NoAddress})
		return
	}
	if ch.Contact == "" {
		p.deliver(r, ch.Name, r.Principal, r.Principal, c.via, p.because(r, c.decision, c.override))
		return
	}
	contacts := contactsOf(&person.User, ch.Contact)
	if len(contacts) == 0 {
		why := belfry.Reason{Code: belfry.NoAddress}
		p.suppress(r, ch.Name, "", why)
		p.fallBack(r, person, ch, c, why)
		return
	}
	usable := 0
	for i := range contacts {
		if why := unusable(&contacts[i]); why != nil {
			if ch.Every {
				p.suppress(r, ch.Name, contacts[i].Address, *why)
			}
			continue
		}
		usable++
		p.put(r, ch.Name, contacts[i].Address, r.Principal, c.via, c.bundling(ch, contacts[i].Address), because)
		if !ch.Every {
			return
		}
	}
	if usable == 0 && ch.Every {
		p.fallBack(r, person, ch, c, *unusable(&contacts[0]))
	}
	if usable == 0 && !ch.Every {
		// The one that would have been used says why none is.
		why := *unusable(&contacts[0])
		p.suppress(r, ch.Name, contacts[0].Address, why)
		p.fallBack(r, person, ch, c, why)
	}
}

// escalated is the reason that a step gives those whom it tells.
func escalated(m *belfry.Match) belfry.Reason {
	if len(m.Because) > 0 {
		return m.Because[0]
	}
	return belfry.Reason{Code: belfry.Escalated, Subscription: m.Subscription.ID}
}

// mandatory reports whether what comes this way ignores mutes and stops.
func (p *plan) mandatory(via *belfry.Via) bool {
	return p.in.Type.Mandatory || via.Match != nil && via.Match.Subscription.Mandatory
}

func (p *plan) allMandatory(r *belfry.Recipient) bool {
	for i := range r.Via {
		if !p.mandatory(&r.Via[i]) {
			return false
		}
	}
	return true
}

// block is why a person hears nothing that is neither mandatory nor forced:
// the global stop first, then a mute, then the level.
func (p *plan) block(r *belfry.Recipient, person *belfry.Person, pref *Effective) *belfry.Reason {
	switch {
	case person.Settings.Stop:
		return &belfry.Reason{Code: belfry.GlobalStop}
	case pref.Mute != nil:
		return &belfry.Reason{Code: belfry.Muted, Object: pref.Mute.Object,
			Detail: detail(pref.Mute, "until "+pref.MuteEnds.UTC().Format(time.RFC3339))}
	case pref.Level == nil:
		return nil
	case pref.Level.Level == belfry.LevelNone:
		return &belfry.Reason{Code: belfry.LevelIsNone, Object: pref.Level.Object, Detail: detail(pref.Level, "")}
	case pref.Level.Level == belfry.LevelRelated && !p.about(r):
		return &belfry.Reason{Code: belfry.NotAboutThem, Object: pref.Level.Object, Detail: detail(pref.Level, "")}
	}
	return nil
}

// detail adds the type or category a preference is for.
func detail(pref *belfry.Preference, words string) string {
	of := pref.Type
	if pref.Category != "" {
		of = "category " + pref.Category
	}
	switch {
	case of == "":
		return words
	case words == "":
		return "for " + of
	}
	return "for " + of + ", " + words
}

// about reports whether the event is about the recipient.
func (p *plan) about(r *belfry.Recipient) bool {
	if slices.Contains(p.in.Event.Event.Related, r.Principal) {
		return true
	}
	for i := range r.Via {
		for k := range r.Via[i].Because {
			if r.Via[i].Because[k].Code == belfry.NamedRelated {
				return true
			}
		}
	}
	return false
}

// choose is the channels of one way: of the member's setting, the preference,
// the subscription, the type's default and the tenant's, the first that names
// any.
func (p *plan) choose(via *belfry.Via, pref *Effective) ([]string, belfry.Reason) {
	id := ""
	if via.Match != nil {
		id = via.Match.Subscription.ID
	}
	switch {
	case via.Notify.Script != "":
		return []string{via.Notify.Script}, belfry.Reason{Code: belfry.BySubscription, Subscription: id}
	case via.Match != nil && via.Match.Escalation > 0 && len(via.Notify.Channels) > 0:
		return via.Notify.Channels, belfry.Reason{Code: belfry.BySubscription, Subscription: id}
	case via.Member != nil && len(via.Member.Channels) > 0:
		return via.Member.Channels, belfry.Reason{Code: belfry.ByMember, Subscription: id, Object: via.Member.Object}
	case pref.Channels != nil:
		return pref.Channels.Channels, belfry.Reason{Code: belfry.ByPreference, Object: pref.Channels.Object, Detail: detail(pref.Channels, "")}
	case len(via.Notify.Channels) > 0:
		return via.Notify.Channels, belfry.Reason{Code: belfry.BySubscription, Subscription: id}
	case len(p.in.Type.Channels.Default) > 0:
		return p.in.Type.Channels.Default, belfry.Reason{Code: belfry.ByType}
	}
	return p.in.Defaults, belfry.Reason{Code: belfry.ByTenant}
}

// address tells an address nobody known has, by e-mail only. A subscription
// that names channels must name an e-mail channel; else the defaults' e-mail
// channels hold, and without any the first there is: whoever wrote an address
// into a rule wants it told.
func (p *plan) address(r *belfry.Recipient) {
	if r = p.speaking(r, nil); r == nil {
		return
	}
	scripts := 0 // run for the address
	var cs choices
	for i := range r.Via {
		via := &r.Via[i]
		if s := via.Notify.Script; s != "" {
			address := belfry.NormaliseEmail(r.Address)
			p.script(r, s, via, belfry.ScriptAddress(s, address), address)
			scripts++
			continue
		}
		channels, decision := p.choose(via, &Effective{})
		mails := slices.DeleteFunc(slices.Clone(channels), func(c string) bool { return !p.mails(c) })
		if len(mails) == 0 && len(via.Notify.Channels) == 0 {
			if mails = slices.DeleteFunc(slices.Clone(p.in.Defaults), func(c string) bool { return !p.mails(c) }); len(mails) > 0 {
				decision = belfry.Reason{Code: belfry.ByTenant}
			} else if at := slices.IndexFunc(p.in.Channels, func(c ChannelInfo) bool { return c.Contact == ContactEmail }); at >= 0 {
				mails, decision = []string{p.in.Channels[at].Name}, belfry.Reason{Code: belfry.BySubscription}
				if via.Match != nil {
					decision.Subscription = via.Match.Subscription.ID
				}
			}
		}
		override := belfry.Reason{}
		if via.Match != nil && via.Match.Escalation > 0 {
			override = escalated(via.Match)
		}
		often, blocked := p.often(via, &Effective{}), (*belfry.Reason)(nil)
		if often.wait = p.wait(&often, via, nil); often.never() {
			blocked = often.paused()
		}
		for _, c := range mails {
			cs.add(choice{channel: c, via: via, decision: decision, override: override, often: often, blocked: blocked})
		}
	}
	for _, c := range p.in.Type.Channels.Forced {
		if !p.mails(c) {
			continue
		}
		forced := choice{channel: c, via: lead(r), decision: belfry.Reason{Code: belfry.ByForced, Detail: p.in.Event.Event.Type}}
		if at := slices.IndexFunc(cs, func(have choice) bool { return have.channel == c }); at >= 0 {
			forced.via = cs[at].via
			if cs[at].blocked == nil {
				forced.often = cs[at].often
			}
			cs[at] = forced
		} else {
			cs = append(cs, forced)
		}
	}
	if len(cs) == 0 && scripts > 0 {
		return
	}
	if len(cs) == 0 {
		p.suppress(r, "", "", belfry.Reason{Code: belfry.NoChannel, Detail: "an address is told by e-mail only"})
		return
	}
	address := belfry.NormaliseEmail(r.Address)
	for i := range p.in.Channels {
		for k := range cs {
			if c := &cs[k]; c.channel == p.in.Channels[i].Name && !p.stopped(r, c) {
				p.put(r, c.channel, address, address, c.via, c.bundling(&p.in.Channels[i], ""), p.reasons(r, c.decision, c.override, c.often.digest()))
			}
		}
	}
}

func (p *plan) mails(channel string) bool {
	ch := p.channels[channel]
	return ch != nil && ch.Contact == ContactEmail
}

// contactsOf are a user's contacts of a kind by priority, addresses
// normalised. The user's e-mail address is one of kind email; whoever wrote it
// could verify it.
func contactsOf(u *belfry.User, kind string) []belfry.Contact {
	var all []belfry.Contact
	own := ""
	if kind == ContactEmail {
		own = belfry.NormaliseEmail(u.Email)
	}
	for i := range u.Contacts {
		if u.Contacts[i].Kind != kind {
			continue
		}
		c := u.Contacts[i]
		if kind == ContactEmail {
			c.Address = belfry.NormaliseEmail(c.Address)
		} else {
			c.Address = strings.TrimSpace(c.Address)
		}
		if c.Address == "" {
			continue
		}
		if c.Address == own {
			own = ""
		}
		all = append(all, c)
	}
	if own != "" {
		all = slices.Insert(all, 0, belfry.Contact{Kind: kind, Address: own, Verified: true})
	}
	slices.SortStableFunc(all, func(a, b belfry.Contact) int { return max(a.Priority, 1) - max(b.Priority, 1) })
	return all
}

// unusable is why a contact cannot be used now; nil when it can.
func unusable(c *belfry.Contact) *belfry.Reason {
	switch {
	case c.Dead != "":
		return &belfry.Reason{Code: belfry.ContactDead, Detail: c.Dead}
	case c.Disabled:
		return &belfry.Reason{Code: belfry.ContactDisabled}
	case !c.Verified:
		return &belfry.Reason{Code: belfry.NotVerified}
	}
	return nil
}

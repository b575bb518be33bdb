package pipeline

import (
	"cmp"
	"context"
	"slices"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/channel"
	"github.com/belfryhq/belfry/internal/render"
	"github.com/belfryhq/belfry/internal/resolve"
)

// Opener opens sealed secrets.
type Opener interface {
	Open(sealed, associated []byte) ([]byte, error)
}

// Linker makes the addresses a message offers its reader.
type Linker interface {
	// Unsubscribe is the one-click page that ends exactly this subscription for
	// this person (or bare address).
	Unsubscribe(tenant, subscription, principal, address string) string
	// Why is the page that says why this message came, to whoever it came.
	Why(d *belfry.Delivery) string
	// Acknowledge is the page by which this person (or bare address) says that she
	// has taken notice of an event.
	Acknowledge(tenant, eventID, principal, address string) string
	// ListID is the RFC 2919 identifier of a subscription.
	ListID(tenant, subscription string) string
}

// Messages is the Composer of the house: the checks before each send, and
// rendering.
type Messages struct {
	facts     *Facts
	subs      *Subscriptions
	templates Templates
	links     Linker
	secrets   Opener
	now       func() time.Time
	endpoints *lru.Cache[endpointKey, *endpointParts]
	gate      *Gate                       // nil = no platform is ever asked
	digested  *lru.Cache[wordsKey, *said] // words of items of digests
}

// SetGate makes messages to people be looked at by a gate, too.
func (m *Messages) SetGate(g *Gate) { m.gate = g }

type endpointKey struct {
	tenant, id string
	version    int64
}

// endpointParts is what is made once of each version of an endpoint.
type endpointParts struct {
	secrets []openedSecret
	waits   []time.Duration
}

type openedSecret struct {
	key   []byte
	until *time.Time
}

// NewMessages makes the Composer.
func NewMessages(facts *Facts, subs *Subscriptions, templates Templates, links Linker, secrets Opener, now func() time.Time) *Messages {
	cache, _ := lru.New[endpointKey, *endpointParts](4096) // the size is positive, which is all New checks
	digested, _ := lru.New[wordsKey, *said](digestWords)
	return &Messages{facts: facts, subs: subs, templates: templates, links: links, secrets: secrets, now: now, endpoints: cache, digested: digested}
}

// Compose checks the delivery against what is known now and renders it.
func (m *Messages) Compose(ctx context.Context, d *belfry.Delivery, p *Payload) (Composed, error) {
	if d.Bundle != "" {
		return m.digest(ctx, d, p)
	}
	var sub *belfry.Subscription
	if d.Subscription != "" {
		s, reason, err := m.subs.Standing(ctx, d.Tenant, d.Subscription)
		if err == nil && reason != nil {
			s, d, reason, err = m.another(ctx, d, reason)
		}
		if err != nil || reason != nil {
			c := Composed{Drop: reason}
			if reason != nil && reason.Code == belfry.SubscriptionWaits {
				c = Composed{Awaits: awaited(d)}
			}
			return c, err
		}
		sub = s
	}
	if d.Channel == belfry.ChannelWebhook {
		return m.webhook(ctx, d, p)
	}
	if d.RunsScript() {
		return m.script(ctx, d, p, sub)
	}
	return m.person(ctx, d, p, sub)
}

func (m *Messages) webhook(ctx context.Context, d *belfry.Delivery, p *Payload) (Composed, error) {
	e, found, err := m.facts.Directory.Endpoint(ctx, d.Tenant, d.Address)
	switch {
	case err != nil:
		return Composed{}, err
	case !found:
		return Composed{Drop: &belfry.Reason{Code: belfry.EndpointUnknown, Detail: d.Address}}, nil
	case e.State == belfry.EndpointPaused, e.State == belfry.EndpointDisabled:
		return Composed{Wait: true}, nil // what waits when it is resumed is sent
	}
	settings, err := m.facts.Directory.TenantSettings(ctx, d.Tenant)
	if err != nil {
		return Composed{}, err
	}
	if settings.WebhooksOff() {
		return Composed{Wait: true}, nil
	}
	parts, err := m.partsOf(d.Tenant, e)
	if err != nil {
		return Composed{}, err
	}
	wire, err := p.Wire(render.EncodeEvent)
	if err != nil {
		return Composed{}, err
	}
	return Composed{
		Target: channel.Target{Endpoint: e, Secrets: parts.valid(m.now())},
		Message: &belfry.Message{
			ID: d.ID, Time: p.Event.Time, ContentType: render.WebhookContentType,
			Body: render.WebhookBody(wire, p.Event.Type, p.Event.Time, d.Subscription, d.Principal),
		},
		Waits:       parts.waits,
		Rate:        e.RatePerSecond,
		Concurrency: e.Concurrency,
	}, nil
}

// partsOf opens the secrets of an endpoint and reads its schedule, once a version.
func (m *Messages) partsOf(tenant string, e *belfry.Endpoint) (*endpointParts, error) {
	key := endpointKey{tenant, e.ID, e.Version}
	if parts, ok := m.endpoints.Get(key); ok {
		return parts, nil
	}
	parts := &endpointParts{}
	for _, s := range e.Secrets {
		clear, err := m.secrets.Open(s.Sealed, belfry.EndpointSecretContext(tenant, e.ID))
		if err != nil {
			return nil, belfry.Errorf(belfry.Internal, "the secret of endpoint %s cannot be opened: is the key it was sealed with still in secret_key? %w", e.ID, err)
		}
		parts.secrets = append(parts.secrets, openedSecret{clear, s.Until})
	}
	for _, text := range e.Schedule {
		wait, ok := belfry.ParseSpan(text)
		if !ok {
			return nil, belfry.Errorf(belfry.Internal, "the schedule of endpoint %s: %q is no length of time", e.ID, text)
		}
		parts.waits = append(parts.waits, wait)
	}
	m.endpoints.Add(key, parts)
	return parts, nil
}

func (p *endpointParts) valid(now time.Time) [][]byte {
	keys := make([][]byte, 0, len(p.secrets))
	for _, s := range p.secrets {
		if s.until == nil || now.Before(*s.until) {
			keys = append(keys, s.key)
		}
	}
	return keys
}

func (m *Messages) person(ctx context.Context, d *belfry.Delivery, p *Payload, sub *belfry.Subscription) (Composed, error) {
	if sub != nil {
		out, err := m.facts.OptedOut(ctx, d)
		if err != nil {
			return Composed{}, err
		}
		if out {
			return Composed{Drop: &belfry.Reason{Code: belfry.OptedOut, Subscription: d.Subscription}}, nil
		}
		if sub.Acknowledge != nil {
			who := cmp.Or(d.Principal, d.Address)
			if out, err = m.facts.Acks.Acknowledged(ctx, d.Tenant, d.EventID, who); err != nil {
				return Composed{}, err
			}
			if out {
				return Composed{Drop: &belfry.Reason{Code: belfry.Acknowledged}}, nil
			}
		}
	}
	target, who, drop, err := m.target(ctx, d)
	if err == nil && drop == nil {
		drop, err = m.facts.stopped(ctx, d, p.Event, sub, who)
	}
	if err != nil || drop != nil {
		return Composed{Drop: drop}, err
	}
	if who != nil && m.late(d) {
		check := &itemCheck{m: m, d: d, who: who, now: m.now()}
		if drop, err = check.since(ctx, p.Accepted, sub, d.Because); err != nil || drop != nil {
			return Composed{Drop: drop}, err
		}
	}
	if m.gate != nil {
		if drop, hold, err := m.gate.recheck(ctx, d, p.Event); err != nil || drop != nil || hold {
			return Composed{Drop: drop, Hold: hold}, err
		}
	}
	msg, drop, err := m.message(ctx, d, p.Accepted, sub, who)
	return Composed{Target: target, Message: msg, Drop: drop}, err
}

// message is what a delivery says of its event; a reason says that its template
// wants nothing said.
func (m *Messages) message(ctx context.Context, d *belfry.Delivery, acc *belfry.Accepted, sub *belfry.Subscription, who *belfry.Person) (*belfry.Message, *belfry.Reason, error) {
	item, err := m.facts.Item(ctx, d.Tenant, acc, sub, d.Because, who)
	if err != nil {
		return nil, nil, err
	}
	item.Locale = d.Locale
	wanted := Wanted{Subscription: sub, Template: d.Template, Channel: d.Channel, Reader: &belfry.User{Email: d.Address}, Now: m.now()}
	if who != nil {
		wanted.Reader = &who.User
	}
	t, from, drop, err := m.facts.Wording(ctx, m.templates, d.Tenant, &wanted, &item)
	if err != nil || drop != nil {
		return nil, drop, err
	}
	links := render.Links{Why: m.links.Why(d)}
	if sub != nil {
		if sub.Acknowledge != nil {
			links.Acknowledge = m.links.Acknowledge(d.Tenant, d.EventID, d.Principal, d.Address)
		}
		links.Unsubscribe = m.links.Unsubscribe(d.Tenant, d.Subscription, d.Principal, d.Address)
	}
	if page := m.leaves(d, acc.Event); page != "" {
		links.Unsubscribe = page
	}
	msg := t.Mail(item, links)
	msg.ID = d.ID
	if sub != nil {
		msg.ListID = m.links.ListID(d.Tenant, d.Subscription)
	}
	if from != nil && from.Attach == belfry.AttachCSV {
		if table := render.RecordsCSV([]*belfry.Event{acc.Event}); table != nil {
			msg.Attachments = []belfry.Attachment{{Name: "records.csv", ContentType: "text/csv; charset=utf-8", Body: table}}
		}
	}
	return &msg, nil, m.facts.address(ctx, d.Tenant, sub, &item, &msg)
}

// Expect has the directory read people who will be told, many at once.
func (m *Messages) Expect(ctx context.Context, tenant string, people []string) error {
	view, err := m.facts.Directory.At(ctx, tenant, 0)
	if err != nil {
		return err
	}
	_, err = view.Persons(people)
	return err
}

// target is where a delivery goes and who is there, nobody for a bare address; a
// reason says that it may not go there any more.
func (m *Messages) target(ctx context.Context, d *belfry.Delivery) (channel.Target, *belfry.Person, *belfry.Reason, error) {
	target := channel.Target{Address: d.Address}
	who, err := m.facts.Person(ctx, d.Tenant, d.Principal)
	if err != nil || d.Principal == "" {
		return target, who, nil, err
	}
	contact, drop := reachable(who, d)
	if drop == nil {
		target.Name, target.Keys = who.User.Name, contact.Keys
	}
	return target, who, drop, nil
}

// reachable checks that a person may still be told at the address a delivery
// was planned for.
func reachable(who *belfry.Person, d *belfry.Delivery) (belfry.Contact, *belfry.Reason) {
	if reason := resolve.Away(who); reason != nil {
		return belfry.Contact{}, reason
	}
	i := slices.IndexFunc(who.User.Contacts, func(c belfry.Contact) bool {
		return c.Address == d.Address || belfry.NormaliseEmail(c.Address) == d.Address
	})
	if i < 0 {
		return belfry.Contact{}, &belfry.Reason{Code: belfry.NoAddress, Detail: "the address was removed since"}
	}
	c := who.User.Contacts[i]
	switch {
	case c.Disabled:
		return c, &belfry.Reason{Code: belfry.ContactDisabled}
	case c.Dead != "":
		return c, &belfry.Reason{Code: belfry.ContactDead, Detail: c.Dead}
	case !c.Verified:
		return c, &belfry.Reason{Code: belfry.NotVerified}
	}
	return c, nil
}

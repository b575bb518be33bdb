package app

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base32"
	"encoding/json"
	"net/url"
	"strings"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/pipeline"
	"github.com/belfryhq/belfry/internal/secret"
	"github.com/belfryhq/belfry/internal/web/api"
)

// unsubscribeFor is how long a link in a message works.
const unsubscribeFor = 180 * 24 * time.Hour

// linkKind is a kind of link and where it leads: one is not good for another.
type linkKind struct{ name, path string }

var (
	unsubscribeLink = linkKind{"unsubscribe", "/u/"}
	whyLink         = linkKind{"why", "/why/"}
	acknowledgeLink = linkKind{"acknowledge", "/a/"}
	answerLink      = linkKind{"joining", "/confirm/"}
)

// notValid is the answer to every link that is not, whatever the cause.
var notValid = belfry.Errorf(belfry.NotFound, "this link is not valid, or no longer")

// links makes the addresses in messages.
type links struct {
	base string // without a slash at the end
	box  *secret.Box
	now  func() time.Time
}

// link is an address that carries something until then.
func (l *links) link(kind linkKind, carried any, until time.Time) string {
	payload, err := json.Marshal(carried)
	if err != nil {
		return "" // texts and times always marshal
	}
	return l.base + kind.path + l.box.Sign(kind.name, payload, until)
}

// read gives what a link carries.
func (l *links) read(kind linkKind, token string, carried any) error {
	payload, err := l.box.Verify(kind.name, token, l.now())
	if err != nil || json.Unmarshal(payload, carried) != nil {
		return notValid
	}
	return nil
}

// holder is whom a link was made for.
type holder struct {
	Principal string `json:"p,omitempty"`
	Address   string `json:"a,omitempty"` // of a bare address
}

func holderOf(principal, address string) holder {
	if principal != "" {
		return holder{Principal: principal}
	}
	return holder{Address: address}
}

// who is the principal or address.
func (h *holder) who() string { return cmp.Or(h.Principal, h.Address) }

// public serves those who follow such an address.
type public struct {
	*links
	subs  *pipeline.Subscriptions
	facts *pipeline.Facts
	edit  *publisher

	explain *pipeline.Explainer
}

// asked is what a link to why a message came carries: which one, and to whom it
// came, for a message that is not theirs any more is nobody's business.
type asked struct {
	Tenant   string `json:"t"`
	Delivery string `json:"d"`
	holder
}

// Why is the page that says why a message came.
func (l *links) Why(d *belfry.Delivery) string {
	return l.link(whyLink, asked{d.Tenant, d.ID, holderOf(d.Principal, d.Address)}, l.now().Add(unsubscribeFor))
}

// Why says of the message of a link why it came. Whoever holds it sees what is
// about its recipient only: not what receivers answered, nor more of the event
// than the message said.
func (l *public) Why(ctx context.Context, token string) (belfry.Why, error) {
	var q asked
	if err := l.read(whyLink, token, &q); err != nil {
		return belfry.Why{}, err
	}
	w, err := l.explain.Why(ctx, q.Tenant, q.Delivery)
	if err != nil {
		return w, err
	}
	if w.Principal != q.Principal || q.Principal == "" && w.Contact.Address != q.Address {
		return belfry.Why{}, notValid
	}
	for i := range w.Attempts {
		w.Attempts[i].Detail = ""
	}
	if q.Principal != "" {
		who, err := l.facts.Person(ctx, q.Tenant, q.Principal)
		if err != nil {
			return w, err
		}
		if who == nil || who.User.State == belfry.UserDeleted {
			return belfry.Why{}, notValid
		}
		w.Locale = who.User.Locale
	}
	return w, nil
}

// leave is what an unsubscribe link carries.
type leave struct {
	Tenant       string `json:"t"`
	Subscription string `json:"s"`
	holder
}

// Unsubscribe is the one-click page for exactly this subscription and person.
func (l *links) Unsubscribe(tenant, subscription, principal, address string) string {
	if pipeline.BuiltIn(subscription) {
		return ""
	}
	return l.link(unsubscribeLink, leave{tenant, subscription, holderOf(principal, address)}, l.now().Add(unsubscribeFor))
}

// ListID identifies a subscription's messages as a list: a label made of the
// subscription's id under the server's host.
func (l *links) ListID(tenant, subscription string) string {
	host := "belfry.invalid"
	if u, err := url.Parse(l.base); err == nil && u.Hostname() != "" {
		host = u.Hostname()
	}
	label := strings.ReplaceAll(subscription, "_", "-")
	if tenant != belfry.DefaultTenant {
		sum := sha256.Sum256([]byte(tenant))
		label += "." + strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(sum[:10]))
	}
	return label + "." + host
}

func (l *public) leaves(ctx context.Context, token string) (leave, *belfry.Subscription, error) {
	var q leave
	if err := l.read(unsubscribeLink, token, &q); err != nil {
		return q, nil, err
	}
	sub, _, err := l.subs.Standing(ctx, q.Tenant, q.Subscription)
	if err == nil && sub == nil {
		err = notValid
	}
	return q, sub, err
}

// Offered says what a link would end.
func (l *public) Offered(ctx context.Context, token string) (api.Offer, error) {
	q, sub, err := l.leaves(ctx, token)
	if err != nil {
		return api.Offer{}, err
	}
	o := api.Offer{Title: sub.Title, Who: q.Address}
	if o.Title == "" {
		o.Title = sub.ID
	}
	who, err := l.facts.Person(ctx, q.Tenant, q.Principal)
	if err != nil {
		return o, err
	}
	if who != nil {
		o.Who, o.Locale = who.User.Name, who.User.Locale
	}
	return o, nil
}

// Unsubscribe ends exactly that subscription for exactly that recipient: what
// they joined is left, and what a rule would name them for is opted out of.
func (l *public) Unsubscribe(ctx context.Context, token string) error {
	q, _, err := l.leaves(ctx, token)
	if err != nil {
		return err
	}
	who := q.who()
	_, err = l.edit.Apply(ctx, belfry.Changes{
		Tenant:  q.Tenant,
		OptOuts: []belfry.OptOut{{Subscription: q.Subscription, Who: who, Since: l.now()}},
		Audit:   []belfry.AuditEntry{{At: l.now(), Who: who, Action: "subscription.opt_out", Target: q.Subscription, Detail: "by a link in a message"}},
	})
	return err
}

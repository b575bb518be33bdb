package auth

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/time/rate"
)

// Store keeps keys and tenants as documents of tenant belfry.AllTenants.
type Store interface {
	Document(ctx context.Context, tenant, kind, id string) (belfry.Document, bool, error)
	Documents(ctx context.Context, tenant, kind, after string, limit int) ([]belfry.Document, error)
	Apply(ctx context.Context, ch belfry.Changes) (version int64, err error)
}

// ProvenFor is how long a proven key is believed without asking the store
// again: the longest time a key revoked on another node can still work if the
// change log does not reach this one.
const ProvenFor = 30 * time.Second

// Bounds of what is kept in memory, and of wrong keys from one address.
const (
	provenKeys      = 4096
	watchedAddrs    = 8192
	failuresAtOnce  = 20
	failureInterval = 3 * time.Second // one more is forgiven after this
)

// Options of an Authenticator.
type Options struct {
	Store     Store
	Bootstrap string           // root key of the configuration; empty = none
	Now       func() time.Time // UTC
}

// Authenticator tells who is asking. Safe for use by many goroutines.
type Authenticator struct {
	store     Store
	bootstrap [sha256.Size]byte
	hasBoot   bool
	now       func() time.Time

	// proven maps the hash of a whole token to who it proved to be. Looking
	// a hash up leaks nothing about tokens.
	proven   *lru.Cache[[sha256.Size]byte, proof]
	tenants  *lru.Cache[string, time.Time] // known tenants and until when that is believed
	failures *lru.Cache[netip.Addr, *rate.Limiter]
	mu       sync.Mutex // guards get-or-add of failures
	// epoch counts calls of Forget, so that a proof read from the store before
	// a revocation is not remembered after it.
	epochMu sync.Mutex
	epoch   uint64
}

type proof struct {
	identity Identity
	until    time.Time
}

// New makes an Authenticator.
func New(o Options) *Authenticator {
	a := &Authenticator{store: o.Store, now: o.Now}
	if o.Bootstrap != "" {
		a.bootstrap, a.hasBoot = sha256.Sum256([]byte(o.Bootstrap)), true
	}
	// The sizes are positive, which is all that New checks.
	a.proven, _ = lru.New[[sha256.Size]byte, proof](provenKeys)
	a.tenants, _ = lru.New[string, time.Time](provenKeys)
	a.failures, _ = lru.New[netip.Addr, *rate.Limiter](watchedAddrs)
	return a
}

// Authenticate tells who presents authorization (the value of the header) from
// addr, asking for tenant (the value of Belfry-Tenant, usually empty). Errors
// are Unauthorised, Forbidden (a key naming another tenant), NotFound (a root
// key naming a tenant that is not there), Overloaded (too many wrong keys from
// addr, with RetryAfter), or the store's.
func (a *Authenticator) Authenticate(ctx context.Context, authorization, tenant string, addr netip.Addr) (Identity, error) {
	scheme, token, _ := strings.Cut(authorization, " ")
	token = strings.TrimSpace(token)
	if authorization == "" || !strings.EqualFold(scheme, "bearer") || token == "" {
		return Identity{}, belfry.Errorf(belfry.Unauthorised, "no key was given: send it as \"Authorization: Bearer bfy_...\"")
	}
	identity, err := a.prove(ctx, token, addr)
	if err != nil {
		return Identity{}, err
	}
	if !identity.Root {
		if tenant != "" && tenant != identity.Tenant {
			return Identity{}, belfry.Errorf(belfry.Forbidden, "this key belongs to one tenant and cannot name another: leave out Belfry-Tenant")
		}
		return identity, nil
	}
	if tenant == "" {
		tenant = belfry.DefaultTenant
	}
	if err := a.known(ctx, tenant); err != nil {
		return Identity{}, err
	}
	identity.Tenant = tenant
	return identity, nil
}

// Forget drops what is remembered of a key or a tenant: to be called when the
// change log of belfry.AllTenants says it changed.
func (a *Authenticator) Forget(kind, id string) {
	switch kind {
	case belfry.KindTenant:
		a.tenants.Remove(id)
	case belfry.KindKey:
		a.epochMu.Lock()
		a.epoch++
		for _, h := range a.proven.Keys() {
			if p, ok := a.proven.Peek(h); ok && p.identity.Key == id {
				a.proven.Remove(h)
			}
		}
		a.epochMu.Unlock()
	}
}

func (a *Authenticator) prove(ctx context.Context, token string, addr netip.Addr) (Identity, error) {
	now := a.now()
	hash := sha256.Sum256([]byte(token))
	p, seen := a.proven.Get(hash)
	if seen && now.Before(p.until) {
		return p.identity, nil
	}
	limiter := a.limiter(addr)
	// A key that was right before is not a guess: wrong keys of a neighbour
	// behind the same address do not lock it out.
	if wait := waitFor(limiter, now); wait > 0 && !seen {
		return Identity{}, &belfry.Error{Kind: belfry.Overloaded, RetryAfter: wait,
			Msg: "too many wrong keys came from this address: wait, and check the key"}
	}
	epoch := a.currentEpoch()
	identity, ok, err := a.lookUp(ctx, token, hash)
	if err != nil {
		return Identity{}, err
	}
	if !ok {
		a.proven.Remove(hash)
		limiter.AllowN(now, 1)
		return Identity{}, belfry.Errorf(belfry.Unauthorised, "the key is not valid: it may be mistyped or revoked")
	}
	a.remember(hash, proof{identity, now.Add(ProvenFor)}, epoch)
	return identity, nil
}

// lookUp finds whose token it is, ok false when nobody's.
func (a *Authenticator) lookUp(ctx context.Context, token string, hash [sha256.Size]byte) (Identity, bool, error) {
	isBoot := subtle.ConstantTimeCompare(hash[:], a.bootstrap[:]) == 1
	if a.hasBoot && isBoot {
		return Identity{Key: BootstrapKey, Name: BootstrapKey, Root: true}, true, nil
	}
	id, secret, ok := splitToken(token)
	if !ok {
		return Identity{}, false, nil
	}
	doc, found, err := a.store.Document(ctx, belfry.AllTenants, belfry.KindKey, id)
	if err != nil {
		return Identity{}, false, err
	}
	var k keyDocument
	if found {
		if err := json.Unmarshal(doc.Body, &k); err != nil {
			return Identity{}, false, belfry.Errorf(belfry.Internal, "key %s cannot be read: %w", id, err)
		}
	}
	got := hashSecret(secret)
	want := k.Hash
	if len(want) != sha256.Size {
		want = make([]byte, sha256.Size)
	}
	same := subtle.ConstantTimeCompare(got, want) == 1
	if !found || !same {
		return Identity{}, false, nil
	}
	return Identity{Tenant: k.Tenant, Key: id, Name: k.Name, App: k.App, Permissions: k.Permissions, Root: k.Tenant == belfry.AllTenants}, true, nil
}

func (a *Authenticator) known(ctx context.Context, tenant string) error {
	if tenant == belfry.DefaultTenant {
		return nil
	}
	if until, ok := a.tenants.Get(tenant); ok && a.now().Before(until) {
		return nil
	}
	_, found, err := a.store.Document(ctx, belfry.AllTenants, belfry.KindTenant, tenant)
	if err != nil {
		return err
	}
	if !found {
		return belfry.Errorf(belfry.NotFound, "there is no tenant %q: create it with PUT /v1/tenants/%s, or correct Belfry-Tenant", tenant, url.PathEscape(tenant))
	}
	a.tenants.Add(tenant, a.now().Add(ProvenFor))
	return nil
}

func (a *Authenticator) currentEpoch() uint64 {
	a.epochMu.Lock()
	defer a.epochMu.Unlock()
	return a.epoch
}

func (a *Authenticator) remember(hash [sha256.Size]byte, p proof, epoch uint64) {
	a.epochMu.Lock()
	defer a.epochMu.Unlock()
	if a.epoch == epoch {
		a.proven.Add(hash, p)
	}
}

// limiter counts the failures of an address; those of one IPv6 network count
// together, since a host owns all of it.
func (a *Authenticator) limiter(addr netip.Addr) *rate.Limiter {
	addr = addr.Unmap().WithZone("")
	if addr.Is6() {
		if p, err := addr.Prefix(64); err == nil {
			addr = p.Addr()
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	l, ok := a.failures.Get(addr)
	if !ok {
		l = rate.NewLimiter(rate.Every(failureInterval), failuresAtOnce)
		a.failures.Add(addr, l)
	}
	return l
}

// waitFor is how long until the address may try again; 0 = now.
func waitFor(l *rate.Limiter, now time.Time) time.Duration {
	missing := 1 - l.TokensAt(now)
	if missing <= 0 {
		return 0
	}
	return max(time.Duration(missing*float64(failureInterval)), time.Second)
}

// Tokens are "bfy_", the id without its prefix, "_", the secret.
const tokenPrefix = "bfy_"

func splitToken(token string) (id, secret string, ok bool) {
	rest, ok := strings.CutPrefix(token, tokenPrefix)
	if !ok {
		return "", "", false
	}
	id, secret, ok = strings.Cut(rest, "_")
	if !ok || len(id) != 26 || secret == "" || slices.ContainsFunc([]byte(id), func(c byte) bool { return !(c >= '0' && c <= '9' || c >= 'a' && c <= 'z') }) {
		return "", "", false
	}
	return belfry.KeyPrefix + id, secret, true
}

func hashSecret(secret string) []byte {
	sum := sha256.Sum256([]byte(secret))
	return sum[:]
}

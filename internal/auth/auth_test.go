package auth_test

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/belfryhq/belfry/internal/auth"
	"github.com/belfryhq/belfry/internal/belfry"
	"pgregory.net/rapid"
)

// documents is a Store in memory; reads are counted, and can be made to fail.
type documents struct {
	mu    sync.Mutex
	docs  map[belfry.DocumentKey]belfry.Document
	audit map[string][]belfry.AuditEntry
	reads int
	fail  error
}

func newDocuments() *documents {
	return &documents{docs: map[belfry.DocumentKey]belfry.Document{}, audit: map[string][]belfry.AuditEntry{}}
}

func (d *documents) Document(_ context.Context, tenant, kind, id string) (belfry.Document, bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if tenant != belfry.AllTenants {
		return belfry.Document{}, false, errors.New("keys are kept under all tenants")
	}
	d.reads++
	doc, ok := d.docs[belfry.DocumentKey{Kind: kind, ID: id}]
	return doc, ok, d.fail
}

func (d *documents) Documents(_ context.Context, _, kind, after string, limit int) ([]belfry.Document, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []belfry.Document
	for k, doc := range d.docs {
		if k.Kind == kind && k.ID > after {
			out = append(out, doc)
		}
	}
	slices.SortFunc(out, func(a, b belfry.Document) int { return strings.Compare(a.ID, b.ID) })
	return out[:min(limit, len(out))], nil
}

func (d *documents) Apply(_ context.Context, ch belfry.Changes) (int64, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, doc := range ch.Documents {
		d.docs[belfry.DocumentKey{Kind: doc.Kind, ID: doc.ID}] = doc
	}
	for _, k := range ch.DropDocuments {
		delete(d.docs, k)
	}
	d.audit[ch.Tenant] = append(d.audit[ch.Tenant], ch.Audit...)
	return 1, d.fail
}

type clock struct{ t time.Time }

func (c *clock) now() time.Time { return c.t }

var (
	home   = netip.MustParseAddr("192.0.2.7")
	away   = netip.MustParseAddr("198.51.100.9")
	start  = time.Date(2026, 5, 9, 9, 31, 16, 0, time.UTC)
	rooted = auth.Identity{Tenant: "default", Key: auth.BootstrapKey, Root: true}
)

func setUp(t *testing.T) (*auth.Authenticator, *documents, *clock) {
	t.Helper()
	d, c := newDocuments(), &clock{start}
	return auth.New(auth.Options{Store: d, Bootstrap: "root-key-of-the-configuration", Now: c.now}), d, c
}

func issue(t *testing.T, a *auth.Authenticator, by auth.Identity, draft auth.KeyDraft) auth.IssuedKey {
	t.Helper()
	k, err := a.Issue(t.Context(), by, draft)
	if err != nil {
		t.Fatalf("issue: %v", err)
	}
	return k
}

func wantKind(t *testing.T, err error, kind belfry.Kind) {
	t.Helper()
	if err == nil || belfry.KindOf(err) != kind {
		t.Fatalf("error %v has kind %d, want kind %d", err, belfry.KindOf(err), kind)
	}
}

// feature: AIR-1 hashed access keys with permissions; feature: AIR-2 keys that
// may do one thing only.
func TestKeysProveWhoAsks(t *testing.T) {
	a, d, _ := setUp(t)
	k := issue(t, a, rooted, auth.KeyDraft{Name: "school", Permissions: []string{"publish"}, App: "moodlemobile"})
	if !strings.HasPrefix(k.Token, "bfy_") || !strings.HasPrefix(k.ID, "key_") {
		t.Fatalf("issued %+v", k)
	}
	secret := k.Token[strings.LastIndex(k.Token[:35], "_")+1:]
	for _, doc := range d.docs {
		if strings.Contains(string(doc.Body), secret) {
			t.Fatalf("the secret is stored: %s", doc.Body)
		}
	}
	who, err := a.Authenticate(t.Context(), "Bearer "+k.Token, "", home)
	if err != nil {
		t.Fatal(err)
	}
	if who.Tenant != "default" || who.Key != k.ID || who.Name != "school" || who.App != "moodlemobile" || who.Root {
		t.Errorf("identity %+v", who)
	}
	for _, p := range auth.Permissions() {
		if who.May(p) != (p == auth.Publish) {
			t.Errorf("May(%s) = %v", p, who.May(p))
		}
	}
	if len(d.audit["default"]) != 1 || d.audit["default"][0].Action != "key.create" {
		t.Errorf("audit %+v", d.audit)
	}
}

func TestAuthenticateRefuses(t *testing.T) {
	a, _, _ := setUp(t)
	k := issue(t, a, rooted, auth.KeyDraft{Name: "school", Permissions: []string{"read"}})
	_, secret, _ := strings.Cut(strings.TrimPrefix(k.Token, "bfy_"), "_")
	for name, c := range map[string]struct {
		header, tenant string
		kind           belfry.Kind
	}{
		"nothing":            {"", "", belfry.Unauthorised},
		"other scheme":       {"Basic YTpi", "", belfry.Unauthorised},
		"no token":           {"Bearer ", "", belfry.Unauthorised},
		"not a key":          {"Bearer hello", "", belfry.Unauthorised},
		"wrong secret":       {"Bearer " + k.Token + "x", "", belfry.Unauthorised},
		"empty secret":       {"Bearer " + strings.TrimSuffix(k.Token, secret), "", belfry.Unauthorised},
		"unknown id":         {"Bearer bfy_0123456789abcdefghjkmnpqrs_" + secret, "", belfry.Unauthorised},
		"odd id":             {"Bearer bfy_../../../../../../../../x_" + secret, "", belfry.Unauthorised},
		"other tenant":       {"Bearer " + k.Token, "elsewhere", belfry.Forbidden},
		"root, no tenant":    {"Bearer root-key-of-the-configuration", "nowhere", belfry.NotFound},
		"bootstrap mistyped": {"Bearer root-key-of-the-configuratio", "", belfry.Unauthorised},
	} {
		t.Run(name, func(t *testing.T) {
			who, err := a.Authenticate(t.Context(), c.header, c.tenant, home)
			wantKind(t, err, c.kind)
			if who.Tenant != "" || who.May(auth.Read) {
				t.Errorf("an identity came with the error: %+v", who)
			}
		})
	}
	if _, err := a.Authenticate(t.Context(), "bearer "+k.Token, "default", home); err != nil {
		t.Errorf("own tenant named, lower-case scheme: %v", err)
	}
}

func TestRootNamesTenants(t *testing.T) {
	a, d, _ := setUp(t)
	if _, err := a.Authenticate(t.Context(), "Bearer root-key-of-the-configuration", "new school", home); err == nil || !strings.Contains(err.Error(), "PUT /v1/tenants/new%20school") {
		t.Errorf("%v: the call that makes it is not named", err)
	}
	who, err := a.Authenticate(t.Context(), "Bearer root-key-of-the-configuration", "", home)
	if err != nil || !who.Root || who.Tenant != belfry.DefaultTenant || !who.May(auth.Admin) {
		t.Fatalf("%+v, %v", who, err)
	}
	if _, err := d.Apply(t.Context(), belfry.Changes{Documents: []belfry.Document{{Kind: belfry.KindTenant, ID: "school"}}}); err != nil {
		t.Fatal(err)
	}
	who, err = a.Authenticate(t.Context(), "Bearer root-key-of-the-configuration", "school", home)
	if err != nil || who.Tenant != "school" {
		t.Fatalf("%+v, %v", who, err)
	}
	// A key issued there belongs there and sees only its own keys.
	k := issue(t, a, who, auth.KeyDraft{Name: "plugin", Permissions: []string{"admin"}})
	issue(t, a, rooted, auth.KeyDraft{Name: "other", Permissions: []string{"read"}})
	r := issue(t, a, who, auth.KeyDraft{Name: "operator", Root: true})
	plugin, err := a.Authenticate(t.Context(), "Bearer "+k.Token, "", home)
	if err != nil || plugin.Tenant != "school" {
		t.Fatalf("%+v, %v", plugin, err)
	}
	keys, next, err := a.Keys(t.Context(), plugin, "", 10)
	if err != nil || next != "" || len(keys) != 1 || keys[0].ID != k.ID {
		t.Errorf("keys of the tenant %+v, next %q, %v", keys, next, err)
	}
	_, err = a.Key(t.Context(), plugin, r.ID)
	wantKind(t, err, belfry.NotFound)
	wantKind(t, a.Revoke(t.Context(), plugin, r.ID), belfry.NotFound)
	operator, err := a.Authenticate(t.Context(), "Bearer "+r.Token, "school", home)
	if err != nil || !operator.Root {
		t.Errorf("%+v, %v", operator, err)
	}
	if keys, _, err := a.Keys(t.Context(), operator, "", 10); err != nil || len(keys) != 2 {
		t.Errorf("root sees the tenant's and the root keys, got %+v, %v", keys, err)
	}
}

func TestRevokedKeysEndAtOnce(t *testing.T) {
	a, d, _ := setUp(t)
	k := issue(t, a, rooted, auth.KeyDraft{Name: "school", Permissions: []string{"read"}})
	for range 3 {
		if _, err := a.Authenticate(t.Context(), "Bearer "+k.Token, "", home); err != nil {
			t.Fatal(err)
		}
	}
	if d.reads != 1 {
		t.Errorf("%d reads of the store, want the proof remembered", d.reads)
	}
	if err := a.Revoke(t.Context(), rooted, k.ID); err != nil {
		t.Fatal(err)
	}
	_, err := a.Authenticate(t.Context(), "Bearer "+k.Token, "", home)
	wantKind(t, err, belfry.Unauthorised)
	wantKind(t, a.Revoke(t.Context(), rooted, k.ID), belfry.NotFound)
	wantKind(t, a.Revoke(t.Context(), rooted, auth.BootstrapKey), belfry.Conflict)
}

func TestRevocationElsewhereIsFollowed(t *testing.T) {
	a, d, c := setUp(t)
	k := issue(t, a, rooted, auth.KeyDraft{Name: "school", Permissions: []string{"read"}})
	ask := func() error {
		_, err := a.Authenticate(t.Context(), "Bearer "+k.Token, "", home)
		return err
	}
	if err := ask(); err != nil {
		t.Fatal(err)
	}
	delete(d.docs, belfry.DocumentKey{Kind: belfry.KindKey, ID: k.ID}) // as another node would
	if err := ask(); err != nil {
		t.Fatalf("believed for a while: %v", err)
	}
	c.t = c.t.Add(auth.ProvenFor)
	wantKind(t, ask(), belfry.Unauthorised)
	k = issue(t, a, rooted, auth.KeyDraft{Name: "school", Permissions: []string{"read"}})
	if err := ask(); err != nil {
		t.Fatal(err)
	}
	delete(d.docs, belfry.DocumentKey{Kind: belfry.KindKey, ID: k.ID})
	a.Forget(belfry.KindKey, k.ID) // the change log said so
	wantKind(t, ask(), belfry.Unauthorised)
}

func TestGuessingIsSlowedDown(t *testing.T) {
	a, d, c := setUp(t)
	k := issue(t, a, rooted, auth.KeyDraft{Name: "school", Permissions: []string{"read"}})
	fresh := issue(t, a, rooted, auth.KeyDraft{Name: "fresh", Permissions: []string{"read"}})
	if _, err := a.Authenticate(t.Context(), "Bearer "+k.Token, "", home); err != nil {
		t.Fatal(err)
	}
	var err error
	guesses := 0
	for ; guesses < 1000; guesses++ {
		if _, err = a.Authenticate(t.Context(), "Bearer "+k.Token+"x", "", home); belfry.KindOf(err) != belfry.Unauthorised {
			break
		}
	}
	wantKind(t, err, belfry.Overloaded)
	var e *belfry.Error
	if !errors.As(err, &e) || e.RetryAfter < time.Second {
		t.Errorf("no wait is said: %+v", err)
	}
	if guesses < 5 || guesses > 50 {
		t.Errorf("%d guesses at once", guesses)
	}
	reads := d.reads
	_, err = a.Authenticate(t.Context(), "Bearer "+fresh.Token, "", home)
	wantKind(t, err, belfry.Overloaded)
	if d.reads != reads {
		t.Error("a refused guess still reads the store")
	}
	c.t = c.t.Add(auth.ProvenFor) // the proof has to be renewed, but k is no guess
	if _, err := a.Authenticate(t.Context(), "Bearer "+k.Token, "", home); err != nil {
		t.Errorf("a proven key is locked out: %v", err)
	}
	if _, err := a.Authenticate(t.Context(), "Bearer "+fresh.Token, "", away); err != nil {
		t.Errorf("another address is locked out: %v", err)
	}
	c.t = c.t.Add(e.RetryAfter)
	if _, err := a.Authenticate(t.Context(), "Bearer "+fresh.Token, "", home); err != nil {
		t.Errorf("after the wait: %v", err)
	}
}

func TestOneIPv6NetworkCountsTogether(t *testing.T) {
	a, _, _ := setUp(t)
	var err error
	for i := range 200 {
		addr := netip.AddrFrom16([16]byte{0x20, 0x01, 0xd, 0xb8, 15: byte(i)})
		if _, err = a.Authenticate(t.Context(), "Bearer wrong", "", addr); belfry.KindOf(err) == belfry.Overloaded {
			return
		}
	}
	t.Fatalf("never slowed down: %v", err)
}

func TestIssueRefuses(t *testing.T) {
	a, _, _ := setUp(t)
	issuer := auth.Identity{Tenant: "default", Key: "key_1", Permissions: []auth.Permission{auth.IssueKey, auth.RegisterDevice}}
	admin := auth.Identity{Tenant: "default", Key: "key_2", Permissions: []auth.Permission{auth.Admin}}
	for name, c := range map[string]struct {
		by      auth.Identity
		draft   auth.KeyDraft
		kind    belfry.Kind
		pointer string
	}{
		"may not":            {auth.Identity{Tenant: "default", Permissions: []auth.Permission{auth.Publish}}, auth.KeyDraft{Name: "x", Permissions: []string{"publish"}}, belfry.Forbidden, ""},
		"more than itself":   {issuer, auth.KeyDraft{Name: "x", Permissions: []string{"register_device", "admin"}}, belfry.Forbidden, ""},
		"root by admin":      {admin, auth.KeyDraft{Name: "x", Root: true}, belfry.Forbidden, ""},
		"no name":            {admin, auth.KeyDraft{Permissions: []string{"read"}}, belfry.Invalid, "/name"},
		"control character":  {admin, auth.KeyDraft{Name: "a\nb", Permissions: []string{"read"}}, belfry.Invalid, "/name"},
		"reserved name":      {admin, auth.KeyDraft{Name: "bootstrap", Permissions: []string{"read"}}, belfry.Invalid, "/name"},
		"nothing permitted":  {admin, auth.KeyDraft{Name: "x"}, belfry.Invalid, "/permissions"},
		"unknown permission": {admin, auth.KeyDraft{Name: "x", Permissions: []string{"read", "pubish"}}, belfry.Invalid, "/permissions/1"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := a.Issue(t.Context(), c.by, c.draft)
			wantKind(t, err, c.kind)
			var e *belfry.Error
			if errors.As(err, &e); c.pointer != "" && (len(e.Fields) != 1 || e.Fields[0].Pointer != c.pointer) {
				t.Errorf("faults %+v", e.Fields)
			}
			if name == "unknown permission" && !strings.Contains(err.Error(), "publish") {
				t.Errorf("does not name the nearest: %v", err)
			}
		})
	}
	issue(t, a, issuer, auth.KeyDraft{Name: "device", Permissions: []string{"register_device"}})
}

func TestStoreTroubleIsNotARefusal(t *testing.T) {
	a, d, _ := setUp(t)
	k := issue(t, a, rooted, auth.KeyDraft{Name: "school", Permissions: []string{"read"}})
	d.fail = belfry.Errorf(belfry.Unavailable, "the database is away")
	_, err := a.Authenticate(t.Context(), "Bearer "+k.Token, "", home)
	wantKind(t, err, belfry.Unavailable)
	d.fail = nil
	if _, err := a.Authenticate(t.Context(), "Bearer "+k.Token, "", home); err != nil {
		t.Error(err)
	}
}

// No string other than a token that was issued proves anything.
func TestOnlyIssuedTokensProve(t *testing.T) {
	a, _, c := setUp(t)
	k := issue(t, a, rooted, auth.KeyDraft{Name: "school", Permissions: []string{"read"}})
	rapid.Check(t, func(t *rapid.T) {
		token := rapid.OneOf(
			rapid.String(),
			rapid.Custom(func(t *rapid.T) string {
				b := []byte(k.Token)
				b[rapid.IntRange(0, len(b)-1).Draw(t, "at")] = rapid.Byte().Draw(t, "byte")
				return string(b)
			}),
		).Draw(t, "token")
		c.t = c.t.Add(time.Hour) // forgives failures
		_, err := a.Authenticate(context.Background(), "Bearer "+token, "", home)
		if err == nil && strings.TrimSpace(token) != k.Token {
			t.Fatalf("%q proves something", token)
		}
	})
}

package auth

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/belfryhq/belfry/internal/belfry"
)

// KeyDraft is a key to be issued.
type KeyDraft struct {
	Name        string   `json:"name"`          // also the origin of what the key writes
	Permissions []string `json:"permissions"`   // at least one, except for root keys
	App         string   `json:"app,omitempty"` // AirNotifier app name this key works for
	// Root makes a key that names its tenant by Belfry-Tenant and manages
	// tenants; only a root key may issue one.
	Root bool `json:"root,omitempty"`
}

// Key is a key as it is shown: never its secret.
type Key struct {
	ID          string       `json:"id"`
	Name        string       `json:"name"`
	Permissions []Permission `json:"permissions"`
	App         string       `json:"app,omitempty"`
	Root        bool         `json:"root,omitempty"`
	Created     time.Time    `json:"created"`
	CreatedBy   string       `json:"created_by,omitempty"`
}

// IssuedKey is a key with its token, which is shown this once.
type IssuedKey struct {
	Key
	Token string `json:"key"`
}

// keyDocument is what is stored, under belfry.AllTenants.
type keyDocument struct {
	Tenant      string       `json:"tenant"` // AllTenants = a root key
	Hash        []byte       `json:"hash"`   // SHA-256 of the secret
	Name        string       `json:"name"`
	Permissions []Permission `json:"permissions,omitempty"`
	App         string       `json:"app,omitempty"`
	Created     time.Time    `json:"created"`
	CreatedBy   string       `json:"created_by,omitempty"`
}

func (d *keyDocument) shown(id string) Key {
	k := Key{ID: id, Name: d.Name, Permissions: d.Permissions, App: d.App, Root: d.Tenant == belfry.AllTenants, Created: d.Created, CreatedBy: d.CreatedBy}
	if k.Permissions == nil {
		k.Permissions = []Permission{}
	}
	return k
}

// Issue makes a key of by's tenant and gives its token, which cannot be shown
// again. Errors: Forbidden when by may not issue it, Invalid with pointers.
func (a *Authenticator) Issue(ctx context.Context, by Identity, draft KeyDraft) (IssuedKey, error) {
	if !by.May(IssueKey) {
		return IssuedKey{}, belfry.Errorf(belfry.Forbidden, "this key may not issue keys: it needs the permission admin or issue_key")
	}
	permissions, faults := parsePermissions(draft.Permissions)
	if name := strings.TrimSpace(draft.Name); name == "" {
		faults = append(faults, belfry.Field{Pointer: "/name", Message: "give the key a name that says who uses it"})
	} else if len(name) > 100 || !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl) {
		faults = append(faults, belfry.Field{Pointer: "/name", Message: "a name has at most 100 bytes and no control characters"})
	} else if name == BootstrapKey {
		faults = append(faults, belfry.Field{Pointer: "/name", Message: "this name is the configuration's own"})
	}
	if len(draft.App) > 100 || !utf8.ValidString(draft.App) || strings.ContainsFunc(draft.App, unicode.IsControl) {
		faults = append(faults, belfry.Field{Pointer: "/app", Message: "an app name has at most 100 bytes and no control characters"})
	}
	if len(permissions) == 0 && len(draft.Permissions) == 0 && !draft.Root {
		faults = append(faults, belfry.Field{Pointer: "/permissions", Message: "name at least one permission"})
	}
	if err := belfry.Faults(faults); err != nil {
		return IssuedKey{}, err
	}
	tenant := by.Tenant
	if draft.Root {
		if !by.Root {
			return IssuedKey{}, belfry.Errorf(belfry.Forbidden, "only a root key may issue a root key")
		}
		tenant = belfry.AllTenants
	}
	if i := slices.IndexFunc(permissions, func(p Permission) bool { return !by.May(p) }); i >= 0 {
		return IssuedKey{}, belfry.Errorf(belfry.Forbidden, "this key may not issue a key with the permission %s, which it has not itself", permissions[i])
	}
	now := a.now()
	id := belfry.NewID(belfry.KeyPrefix, now)
	secret := newSecret()
	doc := keyDocument{Tenant: tenant, Hash: hashSecret(secret), Name: strings.TrimSpace(draft.Name), Permissions: permissions, App: draft.App, Created: now, CreatedBy: by.Who()}
	body, err := json.Marshal(doc)
	if err != nil {
		return IssuedKey{}, err
	}
	entry := belfry.AuditEntry{At: now, Who: by.Who(), Action: "key.create", Target: id, Detail: doc.Name}
	err = a.edit(ctx, tenant, entry, belfry.Changes{Documents: []belfry.Document{{Kind: belfry.KindKey, ID: id, Body: body}}})
	if err != nil {
		return IssuedKey{}, err
	}
	return IssuedKey{Key: doc.shown(id), Token: tokenPrefix + strings.TrimPrefix(id, belfry.KeyPrefix) + "_" + secret}, nil
}

// Keys lists the keys of by's tenant by id, for root identities the root keys
// too, after the given id. next continues; empty = the end.
func (a *Authenticator) Keys(ctx context.Context, by Identity, after string, limit int) (keys []Key, next string, err error) {
	keys = []Key{}
	for {
		docs, err := a.store.Documents(ctx, belfry.AllTenants, belfry.KindKey, after, 500)
		if err != nil {
			return nil, "", err
		}
		for _, doc := range docs {
			k, ok, err := a.visible(by, doc)
			if err != nil {
				return nil, "", err
			}
			if ok {
				if len(keys) == limit {
					return keys, keys[limit-1].ID, nil
				}
				keys = append(keys, k.shown(doc.ID))
			}
			after = doc.ID
		}
		if len(docs) < 500 {
			return keys, "", nil
		}
	}
}

// Key gives one key that by may see, else NotFound.
func (a *Authenticator) Key(ctx context.Context, by Identity, id string) (Key, error) {
	_, k, err := a.find(ctx, by, id)
	if err != nil {
		return Key{}, err
	}
	return k.shown(id), nil
}

// Revoke ends a key; it is refused from now on.
func (a *Authenticator) Revoke(ctx context.Context, by Identity, id string) error {
	if id == BootstrapKey {
		return belfry.Errorf(belfry.Conflict, "this key comes from the configuration: remove BELFRY_BOOTSTRAP_KEY and restart")
	}
	doc, k, err := a.find(ctx, by, id)
	if err != nil {
		return err
	}
	entry := belfry.AuditEntry{At: a.now(), Who: by.Who(), Action: "key.revoke", Target: id, Detail: k.Name}
	err = a.edit(ctx, k.Tenant, entry, belfry.Changes{DropDocuments: []belfry.DocumentKey{{Kind: doc.Kind, ID: doc.ID}}})
	a.Forget(belfry.KindKey, id)
	return err
}

func (a *Authenticator) find(ctx context.Context, by Identity, id string) (belfry.Document, keyDocument, error) {
	doc, found, err := a.store.Document(ctx, belfry.AllTenants, belfry.KindKey, id)
	if err != nil {
		return doc, keyDocument{}, err
	}
	if found {
		k, ok, err := a.visible(by, doc)
		if err != nil || ok {
			doc.Kind, doc.ID = belfry.KindKey, id
			return doc, k, err
		}
	}
	return doc, keyDocument{}, belfry.Errorf(belfry.NotFound, "there is no key %s", id)
}

func (a *Authenticator) visible(by Identity, doc belfry.Document) (keyDocument, bool, error) {
	var k keyDocument
	if err := json.Unmarshal(doc.Body, &k); err != nil {
		return k, false, belfry.Errorf(belfry.Internal, "key %s cannot be read: %w", doc.ID, err)
	}
	return k, k.Tenant == by.Tenant || by.Root && k.Tenant == belfry.AllTenants, nil
}

// edit applies a change of keys under AllTenants. Its audit entry goes to the
// tenant whose key it is, first, so that nothing happens unrecorded.
func (a *Authenticator) edit(ctx context.Context, tenant string, entry belfry.AuditEntry, ch belfry.Changes) error {
	ch.Tenant = belfry.AllTenants
	if tenant == belfry.AllTenants {
		ch.Audit = []belfry.AuditEntry{entry}
	} else if _, err := a.store.Apply(ctx, belfry.Changes{Tenant: tenant, Audit: []belfry.AuditEntry{entry}}); err != nil {
		return err
	}
	_, err := a.store.Apply(ctx, ch)
	return err
}

// newSecret draws 256 bits.
func newSecret() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // documented never to fail
	return base64.RawURLEncoding.EncodeToString(b[:])
}

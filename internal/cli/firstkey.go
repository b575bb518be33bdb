package cli

import (
	"context"

	"github.com/belfryhq/belfry/internal/auth"
	"github.com/belfryhq/belfry/internal/belfry"
)

// Keyring is the part of auth.Authenticator that a first start needs.
type Keyring interface {
	Keys(ctx context.Context, by auth.Identity, after string, limit int) ([]auth.Key, string, error)
	Issue(ctx context.Context, by auth.Identity, draft auth.KeyDraft) (auth.IssuedKey, error)
}

// FirstKey makes a root key when the server has none at all, so that a fresh
// server can be used; empty when it has keys. Its secret is kept nowhere.
func FirstKey(ctx context.Context, ring Keyring) (string, error) {
	self := auth.Identity{Tenant: belfry.DefaultTenant, Key: "belfry", Name: "belfry serve", Root: true}
	keys, _, err := ring.Keys(ctx, self, "", 1)
	if err != nil || len(keys) > 0 {
		return "", err
	}
	k, err := ring.Issue(ctx, self, auth.KeyDraft{Name: "first key", Root: true})
	return k.Token, err
}

package main

import (
	"context"

	"github.com/belfryhq/belfry/internal/cli"
)

type keysCmd struct {
	Create createKeyCmd `cmd:"" help:"Make a key and show it, this once."`
	List   listKeysCmd  `cmd:"" help:"List keys; secrets are never shown."`
	Revoke revokeKeyCmd `cmd:"" help:"End a key at once."`
}

type createKeyCmd struct {
	Name        string   `arg:"" help:"Who uses it; also the origin of what it writes."`
	Permissions []string `short:"p" name:"permission" placeholder:"NAME" help:"publish, read, admin, send, broadcast, register_device or issue_key; may be repeated."`
	App         string   `placeholder:"NAME" help:"AirNotifier app name the key works for."`
	Root        bool     `help:"May work on every tenant; only a root key can make one."`
	remote
}

// Run makes a key.
func (k *createKeyCmd) Run(ctx context.Context, w world) error {
	c, err := k.client()
	if err != nil {
		return err
	}
	return cli.CreateKey(ctx, c, k.out(w), cli.KeyDraft{Name: k.Name, Permissions: k.Permissions, App: k.App, Root: k.Root})
}

type listKeysCmd struct {
	remote
}

// Run lists keys.
func (k *listKeysCmd) Run(ctx context.Context, w world) error {
	c, err := k.client()
	if err != nil {
		return err
	}
	return cli.ListKeys(ctx, c, k.out(w))
}

type revokeKeyCmd struct {
	ID string `arg:"" name:"id" help:"Id of the key (key_...)."`
	remote
}

// Run ends a key.
func (k *revokeKeyCmd) Run(ctx context.Context, w world) error {
	c, err := k.client()
	if err != nil {
		return err
	}
	return cli.RevokeKey(ctx, c, k.out(w), k.ID)
}

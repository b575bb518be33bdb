package api_test

import (
	"context"
	"errors"
	"testing"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/manage"
	"github.com/belfryhq/belfry/internal/secret"
	"github.com/belfryhq/belfry/internal/store"
)

func manager(t *testing.T, db *store.DB, box *secret.Box) *manage.Manager {
	t.Helper()
	m, err := manage.New(manage.Options{Store: db, Box: box, Now: now, Channels: channels{}, ChannelKinds: kinds{"email"}, SourceKinds: kinds{"moodle"},
		Parts: manage.Parts{All: store.PersonParts(), Edits: store.EditedParts()}, Roles: everybody{}, Outbound: inner{}})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// inner is a guard that refuses one address.
type inner struct{}

func (inner) Judge(host string) error {
	if host == "10.0.0.1" {
		return errors.New("10.0.0.1 is private")
	}
	return nil
}

// everybody holds every role.
type everybody struct{}

func (everybody) Lacks(context.Context, string, string, string, []string) (*belfry.Reason, error) {
	return nil, nil
}

// channels are those that are always there, and one for mail.
type channels struct{}

func (channels) Known(_, name string) bool { return name == "inbox" || name == "email" }

func (channels) Builtin() map[string]string { return map[string]string{"inbox": "inbox"} }

// kinds is one kind with a setting that is required and one that is secret.
type kinds []string

func (k kinds) Kinds() []manage.Kind {
	contact := ""
	if k[0] == "email" {
		contact = "email"
	}
	return []manage.Kind{{Name: k[0], Title: "A kind", Contact: contact, Settings: []manage.Setting{
		{Name: "host", Label: "Host", Type: "text", Required: true}, {Name: "password", Label: "Password", Type: "text", Secret: true}}}}
}

func (k kinds) Check(_ string, settings map[string]string) error {
	if settings["host"] == "" {
		return belfry.Faults([]belfry.Field{{Pointer: "/settings/host", Message: "is required"}})
	}
	return nil
}

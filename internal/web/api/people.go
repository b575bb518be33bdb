package api

import (
	"context"
	"net/http"

	"github.com/belfryhq/belfry/internal/auth"
	"github.com/belfryhq/belfry/internal/belfry"
)

func (s *Server) peopleRoutes() {
	shown := func(u belfry.User) StoredUser { return StoredUser{u, s.Manage.ContactWarnings(u)} }
	crud[StoredUser]{name: "user", path: "/v1/users", tag: "People",
		idOf: func(u *StoredUser) *string { return &u.ID }, pointer: "/id",
		get: func(ctx context.Context, tenant, id string) (StoredUser, int64, error) {
			u, version, err := s.Manage.User(ctx, tenant, id)
			return shown(u), version, err
		},
		put: func(ctx context.Context, by By, v StoredUser, match Expect) (StoredUser, int64, bool, error) {
			u, version, created, err := s.Manage.PutUser(ctx, by, v.User, match)
			return shown(u), version, created, err
		},
		drop: s.Manage.DeleteUser,
		detail: "Fields not given are reset, except contacts: absent they are untouched, present they replace those of the caller's origin (the key's name). " +
			"The member warnings is not read."}.routes(s)
	route(s, spec{id: "putUsers", method: http.MethodPost, path: "/v1/users:batch", tag: "People", may: auth.Admin, max: maxBatchBytes,
		summary: "Create or replace many users", detail: "Whole or not at all."},
		func(ctx context.Context, c *call, in *batch[belfry.User]) (*reply[BatchReceipt], error) {
			out, err := storeBatch(in.Value, func() error { return s.Manage.PutUsers(ctx, c.by(), in.Value) })
			if err == nil {
				out.Body.Warnings = s.Manage.ContactWarnings(in.Value...)
			}
			return out, err
		})
	s.contactRoutes()
	route(s, spec{id: "getPreferences", method: http.MethodGet, path: "/v1/users/{id}/preferences", tag: "People", may: auth.Read, summary: "Get a user's preferences"},
		func(ctx context.Context, c *call, in *ThingID) (*reply[[]belfry.Preference], error) {
			ps, err := s.Manage.Preferences(ctx, c.tenant(), string(in.ID))
			return preferences(ps, err)
		})
	type puttingPreferences struct {
		UserID
		body[[]belfry.Preference]
	}
	route(s, spec{id: "putPreferences", method: http.MethodPut, path: "/v1/users/{id}/preferences", tag: "People", may: auth.Admin, summary: "Replace a user's preferences",
		detail: "Each says for a type, a category, or all, at an object and below, or everywhere: level, channels, frequency, and mutes, once (mute_until) or every week (mutes, by the user's time zone), with a reminder before the end (remind). The closest object wins, then the most specific: a type before its category, that before a prefix, the longer first. Who set a mute is kept in muted_by."},
		func(ctx context.Context, c *call, in *puttingPreferences) (*reply[[]belfry.Preference], error) {
			ps, err := s.Manage.PutPreferences(ctx, c.by(), string(in.ID), in.Value)
			return preferences(ps, err)
		})
	route(s, spec{id: "getSettings", method: http.MethodGet, path: "/v1/users/{id}/settings", tag: "People", may: auth.Read, summary: "Get a user's settings"},
		func(ctx context.Context, c *call, in *ThingID) (*reply[belfry.Settings], error) {
			v, err := s.Manage.Settings(ctx, c.tenant(), string(in.ID))
			return &reply[belfry.Settings]{Status: http.StatusOK, Body: v}, err
		})
	type puttingSettings struct {
		UserID
		body[belfry.Settings]
	}
	route(s, spec{id: "putSettings", method: http.MethodPut, path: "/v1/users/{id}/settings", tag: "People", may: auth.Admin, summary: "Replace a user's settings"},
		func(ctx context.Context, c *call, in *puttingSettings) (*reply[belfry.Settings], error) {
			v, err := s.Manage.PutSettings(ctx, c.by(), string(in.ID), in.Value)
			return &reply[belfry.Settings]{Status: http.StatusOK, Body: v}, err
		})
	crud[belfry.Group]{name: "group", path: "/v1/groups", tag: "People",
		idOf: func(g *belfry.Group) *string { return &g.ID }, pointer: "/id",
		get: s.Manage.Group, put: s.Manage.PutGroup, drop: s.Manage.DeleteGroup,
		detail: "Groups may hold users and groups. Members absent are untouched, present they replace those of the caller's origin (the key's name)."}.routes(s)
	route(s, spec{id: "putGroups", method: http.MethodPost, path: "/v1/groups:batch", tag: "People", may: auth.Admin, max: maxBatchBytes,
		summary: "Create or replace many groups", detail: "Whole or not at all."},
		func(ctx context.Context, c *call, in *batch[belfry.Group]) (*reply[BatchReceipt], error) {
			return storeBatch(in.Value, func() error { return s.Manage.PutGroups(ctx, c.by(), in.Value) })
		})
}

// StoredUser is a user as she is answered.
type StoredUser struct {
	belfry.User
	Warnings []string `json:"warnings,omitempty" doc:"What is allowed but perhaps not meant: contacts of a kind that no channel sends to"`
}

// StoredContacts are contacts as they are answered when they were stored.
type StoredContacts struct {
	list[belfry.Contact]
	Warnings []string `json:"warnings,omitempty" doc:"What is allowed but perhaps not meant: contacts of a kind that no channel sends to"`
}

func preferences(ps []belfry.Preference, err error) (*reply[[]belfry.Preference], error) {
	if ps == nil {
		ps = []belfry.Preference{}
	}
	return &reply[[]belfry.Preference]{Status: http.StatusOK, Body: ps}, err
}

func (s *Server) contactRoutes() {
	route(s, spec{id: "getContacts", method: http.MethodGet, path: "/v1/users/{id}/contacts", tag: "People", may: auth.Read, summary: "List a user's contacts"},
		func(ctx context.Context, c *call, in *ThingID) (*reply[list[belfry.Contact]], error) {
			u, _, err := s.Manage.User(ctx, c.tenant(), string(in.ID))
			if err != nil {
				return nil, err
			}
			return listOf(u.Contacts, ""), nil
		})
	type puttingContacts struct {
		UserID
		body[[]belfry.Contact]
	}
	route(s, spec{id: "putContacts", method: http.MethodPut, path: "/v1/users/{id}/contacts", tag: "People", may: auth.Admin, summary: "Replace a user's contacts",
		detail: "Only those of the caller's origin (the key's name) are replaced; those of others stay."},
		func(ctx context.Context, c *call, in *puttingContacts) (*reply[StoredContacts], error) {
			cs := in.Value
			if cs == nil {
				cs = []belfry.Contact{}
			}
			var after belfry.User
			_, _, err := patch(ctx, object{}, nil,
				func() (belfry.User, int64, error) { return s.Manage.User(ctx, c.tenant(), string(in.ID)) },
				func(u belfry.User, version int64) (belfry.User, int64, error) {
					u.Contacts = cs
					v, version, _, err := s.Manage.PutUser(ctx, c.by(), u, &version)
					after = v
					return v, version, err
				})
			if err != nil {
				return nil, unnest(err, "/contacts")
			}
			return &reply[StoredContacts]{Status: http.StatusOK, Body: StoredContacts{listOf(after.Contacts, "").Body, s.Manage.ContactWarnings(after)}}, nil
		})
}

package api

import (
	"context"
	"net/http"

	"github.com/belfryhq/belfry/internal/auth"
	"github.com/belfryhq/belfry/internal/belfry"
)

// PresetManager keeps presets, and switches them at objects.
type PresetManager interface {
	Presets(ctx context.Context, tenant, after string, limit int) ([]belfry.Preset, string, error)
	Preset(ctx context.Context, tenant, name string) (belfry.Preset, int64, error)
	PutPreset(ctx context.Context, by By, p belfry.Preset, match Expect) (stored belfry.Preset, version int64, created bool, err error)
	PresetWarnings(ctx context.Context, tenant string, p *belfry.Preset) ([]string, error)
	DeletePreset(ctx context.Context, by By, name string, match Expect) error
	PresetPlaces(ctx context.Context, tenant, name, after string, limit int) ([]belfry.PresetPlace, string, error)
	PresetOffEverywhere(ctx context.Context, by By, name, because string) (int, error)
	// PresetsAt and SwitchPreset speak for a user who administers the object, or
	// for the key when there is none.
	PresetsAt(ctx context.Context, tenant, object, user, after string, limit int) ([]belfry.PresetPlace, string, error)
	SwitchPreset(ctx context.Context, by By, name, object, user string, on bool) (out Stored, created bool, err error)
}

// StoredPreset is a preset as it is answered.
type StoredPreset struct {
	belfry.Preset
	Warnings []string `json:"warnings,omitempty" doc:"What is allowed but perhaps not meant: of its subscription, and roles that nobody was ever given"`
}

// SwitchedOff says at how many objects a preset was switched off.
type SwitchedOff struct {
	Ended int `json:"ended"`
}

func (s *Server) presetRoutes() {
	const base = "/v1/presets"
	route(s, spec{id: "listPresets", method: http.MethodGet, path: base, tag: "Presets", may: auth.Read, summary: "List presets",
		detail: "Subscriptions that an administrator predefined, which those who administer an object switch on there as they are."},
		func(ctx context.Context, c *call, in *struct{ Paging }) (*reply[list[belfry.Preset]], error) {
			ps, next, err := s.Manage.Presets(ctx, c.tenant(), in.After, in.Limit)
			if err != nil {
				return nil, err
			}
			return listOf(ps, next), nil
		})
	shown := func(ctx context.Context, tenant string, p belfry.Preset) (StoredPreset, error) {
		warnings, err := s.Manage.PresetWarnings(ctx, tenant, &p)
		return StoredPreset{p, warnings}, err
	}
	crud[StoredPreset]{name: "preset", path: base, tag: "Presets",
		idOf: func(p *StoredPreset) *string { return &p.Name }, pointer: "/name",
		get: func(ctx context.Context, tenant, name string) (v StoredPreset, version int64, err error) {
			p, version, err := s.Manage.Preset(ctx, tenant, name)
			if err == nil {
				v, err = shown(ctx, tenant, p)
			}
			return v, version, err
		},
		put: func(ctx context.Context, by By, v StoredPreset, match Expect) (StoredPreset, int64, bool, error) {
			p, version, created, err := s.Manage.PutPreset(ctx, by, v.Preset, match)
			if err == nil {
				v, err = shown(ctx, by.Tenant, p)
			}
			return v, version, created, err
		},
		drop: s.Manage.DeletePreset,
		detail: "subscription is one without an object. A change is in force at once wherever the preset is on. roles are those whose holders, at an object or above it, administer it and may switch the preset; " +
			"a preset is deleted when it is on nowhere. The member warnings is not read."}.routes(s)
	route(s, spec{id: "listPresetObjects", method: http.MethodGet, path: base + "/{id}/objects", tag: "Presets", may: auth.Read, summary: "List where a preset is on"},
		func(ctx context.Context, c *call, in *struct {
			ThingPath
			Paging
		}) (*reply[list[belfry.PresetPlace]], error) {
			ps, next, err := s.Manage.PresetPlaces(ctx, c.tenant(), string(in.ID), in.After, in.Limit)
			if err != nil {
				return nil, err
			}
			return listOf(ps, next), nil
		})
	route(s, spec{id: "switchPresetOff", method: http.MethodPost, path: base + "/{id}/off", tag: "Presets", may: auth.Admin, summary: "Switch a preset off everywhere",
		detail: "Ends the subscription that it is at each object, with the reason; then it can be deleted."},
		func(ctx context.Context, c *call, in *pausing) (*reply[SwitchedOff], error) {
			n, err := s.Manage.PresetOffEverywhere(ctx, c.by(), string(in.ID), in.Value.Because)
			return &reply[SwitchedOff]{Status: http.StatusOK, Body: SwitchedOff{n}}, err
		})
	type listing struct {
		ThingPath
		Paging
		User string `query:"user" doc:"Only those that she may switch here" maxLength:"512"`
	}
	const at = "/v1/objects/{id}/presets"
	route(s, spec{id: "listObjectPresets", method: http.MethodGet, path: at, tag: "Presets", may: auth.Read, summary: "List the presets that can be switched on at an object, or are",
		detail: "root = the whole site. above are the objects above where one is on for what is below them."},
		func(ctx context.Context, c *call, in *listing) (*reply[list[belfry.PresetPlace]], error) {
			ps, next, err := s.Manage.PresetsAt(ctx, c.tenant(), string(in.ID), in.User, in.After, in.Limit)
			if err != nil {
				return nil, err
			}
			return listOf(ps, next), nil
		})
	type switching struct {
		ThingPath
		Name string `path:"name" maxLength:"100"`
		User string `query:"user" doc:"Who administers the object and asks for it; none = the key does" maxLength:"512"`
	}
	route(s, spec{id: "switchPresetOnHere", method: http.MethodPut, path: at + "/{name}", tag: "Presets", may: auth.Admin, summary: "Switch a preset on at an object",
		detail: "Makes the subscription that the preset is there, with the origin preset: it can be paused, ended and opted out of, not edited. Switching on what is on changes nothing."},
		func(ctx context.Context, c *call, in *switching) (*reply[Stored], error) {
			v, created, err := s.Manage.SwitchPreset(ctx, c.by(), in.Name, string(in.ID), in.User, true)
			if err != nil {
				return nil, err
			}
			return stored(v.Version, created, "/v1/subscriptions/"+v.ID, v), nil
		})
	route(s, spec{id: "switchPresetOffHere", method: http.MethodDelete, path: at + "/{name}", tag: "Presets", may: auth.Admin, summary: "Switch a preset off at an object",
		detail: "Ends the subscription that it is there. Switched on again it is the same one, and who opted out of it still has."},
		func(ctx context.Context, c *call, in *switching) (*nothing, error) {
			_, _, err := s.Manage.SwitchPreset(ctx, c.by(), in.Name, string(in.ID), in.User, false)
			return &nothing{}, err
		})
}

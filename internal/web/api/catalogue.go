package api

import (
	"context"
	"net/http"

	"github.com/belfryhq/belfry/internal/auth"
	"github.com/belfryhq/belfry/internal/belfry"
)

func (s *Server) catalogueRoutes() {
	route(s, spec{id: "listEventTypes", method: http.MethodGet, path: "/v1/event-types", tag: "Catalogue", may: auth.Read, summary: "List event types, discovered ones included"},
		func(ctx context.Context, c *call, in *struct{ Paging }) (*reply[list[belfry.EventType]], error) {
			ts, next, err := s.Manage.EventTypes(ctx, c.tenant(), in.After, in.Limit)
			if err != nil {
				return nil, err
			}
			return listOf(ts, next), nil
		})
	shown := func(ctx context.Context, tenant string, t belfry.EventType) (StoredEventType, error) {
		warnings, err := s.Manage.EventTypeWarnings(ctx, tenant, &t)
		return StoredEventType{t, warnings}, err
	}
	crud[StoredEventType]{name: "eventType", path: "/v1/event-types", tag: "Catalogue",
		idOf: func(t *StoredEventType) *string { return &t.Name }, pointer: "/name",
		get: func(ctx context.Context, tenant, name string) (v StoredEventType, version int64, err error) {
			t, version, err := s.Manage.EventType(ctx, tenant, name)
			if err == nil {
				v, err = shown(ctx, tenant, t)
			}
			return v, version, err
		},
		put: func(ctx context.Context, by By, v StoredEventType, match Expect) (StoredEventType, int64, bool, error) {
			t, version, created, err := s.Manage.PutEventType(ctx, by, v.EventType, match)
			if err == nil {
				v, err = shown(ctx, by.Tenant, t)
			}
			return v, version, created, err
		},
		drop:   s.Manage.DeleteEventType,
		detail: "schema is a JSON Schema that the data of events must fit; see_roles are roles one of which is needed to be told; subscribe says who may subscribe to it by themselves. The member warnings is not read."}.routes(s)
	s.templateRoutes()
	s.endpointRoutes()
	s.channelRoutes()
	s.sourceRoutes()
	s.manifestRoutes()
}

// StoredEventType is an event type as it is answered.
type StoredEventType struct {
	belfry.EventType
	Warnings []string `json:"warnings,omitempty" doc:"What is allowed but perhaps not meant: roles that nobody was ever given"`
}

// StoredEndpoint is an endpoint as it is answered.
type StoredEndpoint struct {
	belfry.Endpoint
	Warnings []string `json:"warnings,omitempty" doc:"What is allowed but will not work as things are: an address that nothing is sent to. Names are looked up when something is sent"`
}

func (s *Server) shown(e belfry.Endpoint) StoredEndpoint {
	return StoredEndpoint{e, s.Manage.EndpointWarnings(&e)}
}

// IssuedEndpoint is an endpoint with the secret the call made, shown this once.
type IssuedEndpoint struct {
	StoredEndpoint
	Secret string `json:"secret" doc:"Signs the webhooks (Standard Webhooks); shown this once"`
}

// Sent says how a test message ended.
type Sent struct {
	Outcome string `json:"outcome" enum:"delivered,accepted,retry,refused,gone"`
	Status  int    `json:"status,omitempty"`
	Detail  string `json:"detail,omitempty"`
}

func sent(o belfry.Outcome, err error) (*reply[Sent], error) {
	return &reply[Sent]{Status: http.StatusOK, Body: Sent{Outcome: o.Kind.String(), Status: o.Status, Detail: o.Detail}}, err
}

func (s *Server) endpointRoutes() {
	const base, item = "/v1/endpoints", "/v1/endpoints/{id}"
	route(s, spec{id: "listEndpoints", method: http.MethodGet, path: base, tag: "Endpoints", may: auth.Read, summary: "List endpoints"},
		func(ctx context.Context, c *call, in *struct{ Paging }) (*reply[list[belfry.Endpoint]], error) {
			es, next, err := s.Manage.Endpoints(ctx, c.tenant(), in.After, in.Limit)
			if err != nil {
				return nil, err
			}
			return listOf(es, next), nil
		})
	route(s, spec{id: "createEndpoint", method: http.MethodPost, path: base, tag: "Endpoints", may: auth.Admin, status: http.StatusCreated, summary: "Create an endpoint",
		detail: "The secret that signs its webhooks is in this answer and never again."},
		func(ctx context.Context, c *call, in *struct {
			Keyed
			body[StoredEndpoint]
		}) (*reply[IssuedEndpoint], error) {
			e, secret, err := s.Manage.CreateEndpoint(ctx, c.by(), in.Value.Endpoint)
			if err != nil {
				return nil, err
			}
			return stored(e.Version, true, base+"/"+e.ID, IssuedEndpoint{s.shown(e), secret}), nil
		})
	route(s, spec{id: "getEndpoint", method: http.MethodGet, path: item, tag: "Endpoints", may: auth.Read, summary: "Get one"},
		func(ctx context.Context, c *call, in *ThingID) (*reply[StoredEndpoint], error) {
			e, err := s.Manage.Endpoint(ctx, c.tenant(), string(in.ID))
			if err != nil {
				return nil, err
			}
			return found(&in.Matching, e.Version, s.shown(e)), nil
		})
	put := func(ctx context.Context, c *call, id string, e belfry.Endpoint, match Expect) (belfry.Endpoint, error) {
		if err := sameID(&e.ID, id, "/id"); err != nil {
			return e, err
		}
		return s.Manage.PutEndpoint(ctx, c.by(), e, match)
	}
	route(s, spec{id: "putEndpoint", method: http.MethodPut, path: item, tag: "Endpoints", may: auth.Admin, summary: "Replace one", detail: "Fields not given are reset; secrets stay. The member warnings is not read."},
		func(ctx context.Context, c *call, in *struct {
			ThingID
			body[StoredEndpoint]
		}) (*reply[StoredEndpoint], error) {
			match, err := in.expect()
			if err != nil {
				return nil, err
			}
			e, err := put(ctx, c, string(in.ID), in.Value.Endpoint, match)
			if err != nil {
				return nil, err
			}
			return stored(e.Version, false, "", s.shown(e)), nil
		})
	route(s, spec{id: "patchEndpoint", method: http.MethodPatch, path: item, tag: "Endpoints", may: auth.Admin, summary: "Change parts of one", detail: "JSON Merge Patch (RFC 7396): null removes a member."},
		func(ctx context.Context, c *call, in *patching) (*reply[StoredEndpoint], error) {
			match, err := in.expect()
			if err != nil {
				return nil, err
			}
			e, version, err := patch(ctx, in.Value, match,
				func() (belfry.Endpoint, int64, error) {
					e, err := s.Manage.Endpoint(ctx, c.tenant(), string(in.ID))
					return e, e.Version, err
				},
				func(e belfry.Endpoint, version int64) (belfry.Endpoint, int64, error) {
					e, err := put(ctx, c, string(in.ID), e, &version)
					return e, e.Version, err
				})
			if err != nil {
				return nil, err
			}
			return stored(version, false, "", s.shown(e)), nil
		})
	mergePatch[belfry.Endpoint](s, item)
	route(s, spec{id: "deleteEndpoint", method: http.MethodDelete, path: item, tag: "Endpoints", may: auth.Admin, summary: "Delete one"},
		func(ctx context.Context, c *call, in *ThingID) (*nothing, error) {
			match, err := in.expect()
			if err != nil {
				return nil, err
			}
			return &nothing{}, s.Manage.DeleteEndpoint(ctx, c.by(), string(in.ID), match)
		})
	route(s, spec{id: "rotateSecret", method: http.MethodPost, path: item + "/rotate-secret", tag: "Endpoints", may: auth.Admin, summary: "Make a new signing secret",
		detail: "The old one signs too for 24 hours. The new one is in this answer and never again."},
		func(ctx context.Context, c *call, in *resuming) (*reply[IssuedEndpoint], error) {
			e, secret, err := s.Manage.RotateSecret(ctx, c.by(), string(in.ID))
			return &reply[IssuedEndpoint]{Status: http.StatusOK, ETag: etag(e.Version, s.shown(e)), Body: IssuedEndpoint{s.shown(e), secret}}, err
		})
	route(s, spec{id: "pauseEndpoint", method: http.MethodPost, path: item + "/pause", tag: "Endpoints", may: auth.Admin, summary: "Pause one", detail: "Deliveries wait until it is resumed."},
		func(ctx context.Context, c *call, in *pausing) (*reply[belfry.Endpoint], error) {
			e, err := s.Manage.PauseEndpoint(ctx, c.by(), string(in.ID), in.Value.Because)
			return &reply[belfry.Endpoint]{Status: http.StatusOK, ETag: etag(e.Version, e), Body: e}, err
		})
	route(s, spec{id: "resumeEndpoint", method: http.MethodPost, path: item + "/resume", tag: "Endpoints", may: auth.Admin, summary: "Resume one", detail: "Also after it was disabled because it said 410."},
		func(ctx context.Context, c *call, in *resuming) (*reply[belfry.Endpoint], error) {
			e, err := s.Manage.ResumeEndpoint(ctx, c.by(), string(in.ID))
			return &reply[belfry.Endpoint]{Status: http.StatusOK, ETag: etag(e.Version, e), Body: e}, err
		})
	route(s, spec{id: "endpointStatus", method: http.MethodGet, path: item + "/status", tag: "Endpoints", may: auth.Read, summary: "Say how calls to an endpoint go",
		detail: "As seen by the node that answers."},
		func(ctx context.Context, c *call, in *ThingPath) (*reply[EndpointStatus], error) {
			if _, err := s.Manage.Endpoint(ctx, c.tenant(), string(in.ID)); err != nil {
				return nil, err
			}
			return &reply[EndpointStatus]{Status: http.StatusOK, Body: s.Running.EndpointStatus(c.tenant(), string(in.ID))}, nil
		})
	route(s, spec{id: "testEndpoint", method: http.MethodPost, path: item + "/test", tag: "Endpoints", may: auth.Admin, summary: "Send a test webhook now"},
		func(ctx context.Context, c *call, in *resuming) (*reply[Sent], error) {
			if _, err := s.Manage.Endpoint(ctx, c.tenant(), string(in.ID)); err != nil {
				return nil, err
			}
			return sent(s.Running.TestEndpoint(ctx, c.tenant(), string(in.ID)))
		})
}

// TestSend names where a test message goes.
type TestSend struct {
	Address string `json:"address"`
}

func (s *Server) channelRoutes() {
	const base, item = "/v1/channels", "/v1/channels/{id}"
	route(s, spec{id: "listChannels", method: http.MethodGet, path: base, tag: "Channels", may: auth.Read, summary: "List channels, and the kinds there are with their settings",
		detail: "Those marked builtin every tenant has; they come with the server or from its configuration."},
		func(ctx context.Context, c *call, _ *struct{}) (*reply[ConfiguredList], error) {
			cs, err := s.Manage.Channels(ctx, c.tenant())
			if cs == nil {
				cs = []ConfiguredView{}
			}
			return &reply[ConfiguredList]{Status: http.StatusOK, Body: ConfiguredList{Items: cs, Kinds: kinds(s.Manage.ChannelKinds())}}, err
		})
	crudOf(s, item, "Channels", "channel",
		func(ctx context.Context, tenant, name string) (ConfiguredView, int64, error) {
			return s.Manage.Channel(ctx, tenant, name)
		},
		func(ctx context.Context, by By, name string, d ConfiguredDraft, match Expect) (ConfiguredView, int64, bool, error) {
			if err := sameID(&d.Name, name, "/name"); err != nil {
				return ConfiguredView{}, 0, false, err
			}
			return s.Manage.PutChannel(ctx, by, d, match)
		}, s.Manage.DeleteChannel)
	type testing struct {
		ThingPath
		Keyed
		body[TestSend]
	}
	route(s, spec{id: "testChannel", method: http.MethodPost, path: item + "/test", tag: "Channels", may: auth.Admin, summary: "Send a test message now"},
		func(ctx context.Context, c *call, in *testing) (*reply[Sent], error) {
			return sent(s.Running.TestChannel(ctx, c.tenant(), string(in.ID), in.Value.Address))
		})
}

// ConfiguredList is what is set up, and the kinds there are.
type ConfiguredList struct {
	Items []ConfiguredView `json:"items"`
	Kinds []KindView       `json:"kinds"`
	Next  string           `json:"next,omitempty"`
}

func kinds(ks []KindView) []KindView {
	if ks == nil {
		return []KindView{}
	}
	return ks
}

// crudOf registers GET, PUT and DELETE of channels and sources.
func crudOf(s *Server, item, tag, name string,
	get func(ctx context.Context, tenant, id string) (ConfiguredView, int64, error),
	put func(ctx context.Context, by By, id string, d ConfiguredDraft, match Expect) (ConfiguredView, int64, bool, error),
	drop func(ctx context.Context, by By, id string, match Expect) error) {
	title := string(name[0]-'a'+'A') + name[1:]
	route(s, spec{id: "get" + title, method: http.MethodGet, path: item, tag: tag, may: auth.Read, summary: "Get one; secrets are named, not shown"},
		func(ctx context.Context, c *call, in *ThingID) (*reply[ConfiguredView], error) {
			v, version, err := get(ctx, c.tenant(), string(in.ID))
			if err != nil {
				return nil, err
			}
			return found(&in.Matching, version, v), nil
		})
	type putting struct {
		ThingID
		body[ConfiguredDraft]
	}
	route(s, spec{id: "put" + title, method: http.MethodPut, path: item, tag: tag, may: auth.Admin, summary: "Set one up", detail: "Secret settings that are left out keep their value."},
		func(ctx context.Context, c *call, in *putting) (*reply[ConfiguredView], error) {
			match, err := in.expect()
			if err != nil {
				return nil, err
			}
			v, version, created, err := put(ctx, c.by(), string(in.ID), in.Value, match)
			if err != nil {
				return nil, err
			}
			return stored(version, created, "", v), nil
		})
	route(s, spec{id: "delete" + title, method: http.MethodDelete, path: item, tag: tag, may: auth.Admin, summary: "Delete one"},
		func(ctx context.Context, c *call, in *ThingID) (*nothing, error) {
			match, err := in.expect()
			if err != nil {
				return nil, err
			}
			return &nothing{}, drop(ctx, c.by(), string(in.ID), match)
		})
}

func (s *Server) sourceRoutes() {
	const base, item = "/v1/sources", "/v1/sources/{id}"
	route(s, spec{id: "listSources", method: http.MethodGet, path: base, tag: "Sources", may: auth.Read, summary: "List sources, and the kinds there are with their settings"},
		func(ctx context.Context, c *call, in *struct{ Paging }) (*reply[ConfiguredList], error) {
			items, next, err := s.Manage.Sources(ctx, c.tenant(), in.After, in.Limit)
			if items == nil {
				items = []ConfiguredView{}
			}
			return &reply[ConfiguredList]{Status: http.StatusOK, Body: ConfiguredList{Items: items, Kinds: kinds(s.Manage.SourceKinds()), Next: next}}, err
		})
	route(s, spec{id: "createSource", method: http.MethodPost, path: base, tag: "Sources", may: auth.Admin, status: http.StatusCreated, summary: "Connect a platform"},
		func(ctx context.Context, c *call, in *struct {
			Keyed
			body[ConfiguredDraft]
		}) (*reply[ConfiguredView], error) {
			v, version, err := s.Manage.CreateSource(ctx, c.by(), in.Value)
			if err != nil {
				return nil, err
			}
			return stored(version, true, base+"/"+encodePathID(v.ID), v), nil
		})
	crudOf(s, item, "Sources", "source", s.Manage.Source,
		func(ctx context.Context, by By, id string, d ConfiguredDraft, match Expect) (ConfiguredView, int64, bool, error) {
			v, version, err := s.Manage.PutSource(ctx, by, id, d, match)
			return v, version, false, err
		}, s.Manage.DeleteSource)
	route(s, spec{id: "sourceStatus", method: http.MethodGet, path: item + "/status", tag: "Sources", may: auth.Read, summary: "Say how a source is doing"},
		func(ctx context.Context, c *call, in *ThingPath) (*reply[SourceStatus], error) {
			v, _, err := s.Manage.Source(ctx, c.tenant(), string(in.ID))
			if err != nil {
				return nil, err
			}
			st, running := s.Running.SourceStatus(c.tenant(), string(in.ID))
			switch {
			case v.State == "paused" && (!running || st.State == "elsewhere"):
				st = SourceStatus{State: "paused"}
			case !running:
				st = SourceStatus{State: "stopped"}
			}
			return &reply[SourceStatus]{Status: http.StatusOK, Body: st}, nil
		})
}

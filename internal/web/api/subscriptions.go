package api

import (
	"context"
	"net/http"
	"strconv"

	"github.com/belfryhq/belfry/internal/auth"
	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/words"
)

// Pausing says why something is paused.
type Pausing struct {
	Because string `json:"because,omitempty" doc:"Shown to whoever asks why nothing comes"`
}

func (s *Server) subscriptionRoutes() {
	type listing struct {
		Paging
		Type   string `query:"type" doc:"Those that ask for this event type" maxLength:"255"`
		Object string `query:"object" doc:"Those whose scope holds this object" maxLength:"512"`
	}
	const base = "/v1/subscriptions"
	route(s, spec{id: "listSubscriptions", method: http.MethodGet, path: base, tag: "Subscriptions", may: auth.Read, summary: "List subscriptions"},
		func(ctx context.Context, c *call, in *listing) (*reply[list[belfry.Subscription]], error) {
			subs, next, err := s.Manage.Subscriptions(ctx, c.tenant(), SubscriptionQuery{Type: in.Type, Object: in.Object, After: in.After, Limit: in.Limit})
			if err != nil {
				return nil, err
			}
			return listOf(subs, next), nil
		})
	route(s, spec{id: "createSubscription", method: http.MethodPost, path: base, tag: "Subscriptions", may: auth.Admin, status: http.StatusCreated,
		summary: "Create a subscription", detail: "The answer is the stored form with id, state, readable (the rule in words) and warnings. filter is CEL, or a filter in the dialects of CloudEvents Subscriptions (an object of exact, prefix, suffix, all, any or not, or an array of them), which is stored as CEL."},
		func(ctx context.Context, c *call, in *struct {
			Keyed
			body[belfry.Subscription]
		}) (*reply[Stored], error) {
			v, err := s.Manage.CreateSubscription(ctx, c.by(), in.Value)
			if err != nil {
				return nil, err
			}
			return stored(v.Version, true, base+"/"+v.ID, v), nil
		})
	route(s, spec{id: "getSubscription", method: http.MethodGet, path: base + "/{id}", tag: "Subscriptions", may: auth.Read, summary: "Get one"},
		func(ctx context.Context, c *call, in *ThingID) (*reply[Stored], error) {
			v, err := s.Manage.Subscription(ctx, c.tenant(), string(in.ID))
			if err != nil {
				return nil, err
			}
			if v.Filtered, err = s.filterWords(ctx, v.WholeFilter(), v.Types); err != nil {
				return nil, err
			}
			return found(&in.Matching, v.Version, v), nil
		})
	put := func(ctx context.Context, c *call, id string, v belfry.Subscription, match Expect) (Stored, error) {
		if err := sameID(&v.ID, id, "/id"); err != nil {
			return Stored{}, err
		}
		return s.Manage.PutSubscription(ctx, c.by(), v, match)
	}
	route(s, spec{id: "putSubscription", method: http.MethodPut, path: base + "/{id}", tag: "Subscriptions", may: auth.Admin, summary: "Replace one",
		detail: "Fields not given are reset; who joined stays. Members readable and warnings are not read."},
		func(ctx context.Context, c *call, in *struct {
			ThingID
			body[Stored]
		}) (*reply[Stored], error) {
			match, err := in.expect()
			if err != nil {
				return nil, err
			}
			v, err := put(ctx, c, string(in.ID), in.Value.Subscription, match)
			if err != nil {
				return nil, err
			}
			return stored(v.Version, false, "", v), nil
		})
	route(s, spec{id: "patchSubscription", method: http.MethodPatch, path: base + "/{id}", tag: "Subscriptions", may: auth.Admin, summary: "Change parts of one", detail: "JSON Merge Patch (RFC 7396): null removes a member."},
		func(ctx context.Context, c *call, in *patching) (*reply[Stored], error) {
			match, err := in.expect()
			if err != nil {
				return nil, err
			}
			v, version, err := patch(ctx, in.Value, match,
				func() (Stored, int64, error) {
					v, err := s.Manage.Subscription(ctx, c.tenant(), string(in.ID))
					return v, v.Version, err
				},
				func(v Stored, version int64) (Stored, int64, error) {
					v, err := put(ctx, c, string(in.ID), v.Subscription, &version)
					return v, v.Version, err
				})
			if err != nil {
				return nil, err
			}
			return stored(version, false, "", v), nil
		})
	mergePatch[Stored](s, base+"/{id}")
	route(s, spec{id: "deleteSubscription", method: http.MethodDelete, path: base + "/{id}", tag: "Subscriptions", may: auth.Admin, summary: "End one",
		detail: "It stays readable with the state ended, so that traces of old events keep their meaning."},
		func(ctx context.Context, c *call, in *ThingID) (*nothing, error) {
			match, err := in.expect()
			if err != nil {
				return nil, err
			}
			return &nothing{}, s.Manage.DeleteSubscription(ctx, c.by(), string(in.ID), match)
		})
	route(s, spec{id: "pauseSubscription", method: http.MethodPost, path: base + "/{id}/pause", tag: "Subscriptions", may: auth.Admin, summary: "Pause one",
		detail: "Until it is resumed nothing matches it, and what was planned of it waits."},
		func(ctx context.Context, c *call, in *pausing) (*reply[Stored], error) {
			v, err := s.Manage.PauseSubscription(ctx, c.by(), string(in.ID), in.Value.Because)
			return &reply[Stored]{Status: http.StatusOK, ETag: etag(v.Version, v), Body: v}, err
		})
	route(s, spec{id: "resumeSubscription", method: http.MethodPost, path: base + "/{id}/resume", tag: "Subscriptions", may: auth.Admin, summary: "Resume one"},
		func(ctx context.Context, c *call, in *resuming) (*reply[Stored], error) {
			v, err := s.Manage.ResumeSubscription(ctx, c.by(), string(in.ID))
			return &reply[Stored]{Status: http.StatusOK, ETag: etag(v.Version, v), Body: v}, err
		})
	s.memberRoutes()
	s.joiningRoutes()
	s.filterRoutes()
	s.conditionRoutes()
	s.followRoutes()
	s.presetRoutes()
	s.importRoutes()
}

func (s *Server) filterRoutes() {
	route(s, spec{id: "listFilters", method: http.MethodGet, path: "/v1/filters", tag: "Subscriptions", may: auth.Read, summary: "List saved filters"},
		func(ctx context.Context, c *call, in *struct{ Paging }) (*reply[list[belfry.SavedFilter]], error) {
			fs, next, err := s.Manage.Filters(ctx, c.tenant(), in.After, in.Limit)
			if err != nil {
				return nil, err
			}
			for i := range fs {
				if fs[i].Readable, err = s.filterWords(ctx, fs[i].Filter, nil); err != nil {
					return nil, err
				}
			}
			return listOf(fs, next), nil
		})
	crud[belfry.SavedFilter]{name: "filter", path: "/v1/filters", tag: "Subscriptions",
		idOf: func(f *belfry.SavedFilter) *string { return &f.Name }, pointer: "/name",
		get: s.savedFilter, put: s.Manage.PutFilter, drop: s.Manage.DeleteFilter,
		detail: "Subscriptions name it in filters. A change is in force for all of them at once; deleting it pauses them. filter is CEL, or a filter in the dialects of CloudEvents, which is stored as CEL."}.routes(s)
}

// savedFilter is one with its words in the reader's language.
func (s *Server) savedFilter(ctx context.Context, tenant, name string) (belfry.SavedFilter, int64, error) {
	f, version, err := s.Manage.Filter(ctx, tenant, name)
	if err == nil {
		f.Readable, err = s.filterWords(ctx, f.Filter, nil)
	}
	return f, version, err
}

// filterWords says a filter in the language that the request asks for.
func (s *Server) filterWords(ctx context.Context, filter string, types []string) (string, error) {
	c := callOf(ctx)
	return s.Manage.FilterWords(ctx, c.tenant(), filter, types, words.Accepting(c.r.Header.Get("Accept-Language"), "en"))
}

type pausing struct {
	ThingPath
	Keyed
	body[Pausing]
}

// optional lets a call without a body mean the zero value.
func (*pausing) optional() {}

type resuming struct {
	ThingPath
	Keyed
}

// ThingPath names a thing in a path.
type ThingPath struct {
	ID PathID `path:"id"`
}

func (s *Server) memberRoutes() {
	const base = "/v1/subscriptions/{id}/members"
	type listing struct {
		ThingPath
		Paging
	}
	route(s, spec{id: "listMembers", method: http.MethodGet, path: base, tag: "Subscriptions", may: auth.Read, summary: "List who joined"},
		func(ctx context.Context, c *call, in *listing) (*reply[list[belfry.Member]], error) {
			ms, next, err := s.Manage.Members(ctx, c.tenant(), string(in.ID), in.After, in.Limit)
			if err != nil {
				return nil, err
			}
			return listOf(ms, next), nil
		})
	type joining struct {
		ThingPath
		Keyed
		body[belfry.Member]
	}
	route(s, spec{id: "addMember", method: http.MethodPost, path: base, tag: "Subscriptions", may: auth.Admin, status: http.StatusCreated, summary: "Add a user, a group or an address",
		detail: "Whoever may join by themselves; by says that an administrator did it. A join at an object counts for its subtree only. Joining again changes the channels."},
		func(ctx context.Context, c *call, in *joining) (*reply[belfry.Member], error) {
			if err := sameID(&in.Value.Subscription, string(in.ID), "/subscription"); err != nil {
				return nil, err
			}
			ms, err := s.Manage.PutMembers(ctx, c.by(), string(in.ID), []belfry.Member{in.Value})
			if err != nil {
				return nil, unnest(err, "/0")
			}
			return &reply[belfry.Member]{Status: http.StatusCreated, Body: ms[0]}, nil
		})
	type leaving struct {
		ThingPath
		Principal string `query:"principal" required:"true" maxLength:"512"`
		Object    string `query:"object" doc:"Where it joined; empty = the join for the whole scope" maxLength:"512"`
	}
	route(s, spec{id: "dropMember", method: http.MethodDelete, path: base, tag: "Subscriptions", may: auth.Admin, summary: "Let a user or group leave"},
		func(ctx context.Context, c *call, in *leaving) (*nothing, error) {
			m := belfry.Member{Subscription: string(in.ID), Principal: in.Principal, Object: in.Object}
			return &nothing{}, s.Manage.DropMembers(ctx, c.by(), string(in.ID), []belfry.Member{m})
		})
	type joiningMany struct {
		ThingPath
		Keyed
		body[[]belfry.Member]
	}
	route(s, spec{id: "addMembers", method: http.MethodPost, path: base + ":batch", tag: "Subscriptions", may: auth.Admin, max: maxBatchBytes, summary: "Join many"},
		func(ctx context.Context, c *call, in *joiningMany) (*reply[BatchReceipt], error) {
			return storeBatch(in.Value, func() error {
				for i := range in.Value {
					if err := sameID(&in.Value[i].Subscription, string(in.ID), "/"+strconv.Itoa(i)+"/subscription"); err != nil {
						return err
					}
				}
				_, err := s.Manage.PutMembers(ctx, c.by(), string(in.ID), in.Value)
				return err
			})
		})
}

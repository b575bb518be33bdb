package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"reflect"
	"strconv"

	"github.com/belfryhq/belfry/internal/auth"
	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/danielgtaylor/huma/v2"
)

// maxBatch is the most items of a batch.
const maxBatch = 10_000

// by is the caller as rooms that know nothing of keys see it.
func (c *call) by() By {
	return By{Tenant: c.who.Tenant, Who: c.who.Who(), Origin: c.who.Origin()}
}

// ThingID names a thing in a path, with conditions.
type ThingID struct {
	ID PathID `path:"id"`
	Matching
}

// BatchReceipt is the answer to a batch.
type BatchReceipt struct {
	Stored   int      `json:"stored"`
	Warnings []string `json:"warnings,omitempty" doc:"What is allowed but perhaps not meant"`
}

type batch[T any] struct {
	Keyed
	body[[]T]
}

func batchSize[T any](items []T) error {
	if len(items) > maxBatch {
		return belfry.Errorf(belfry.TooLarge, "the batch has %d items, at most %d are taken at once: send it in parts", len(items), maxBatch)
	}
	return nil
}

// sameID takes the id from the path, and refuses a body that names another.
func sameID(inBody *string, inPath, pointer string) error {
	if *inBody != "" && *inBody != inPath {
		return belfry.Faults([]belfry.Field{{Pointer: pointer, Message: "is another one than the path names: leave it out"}})
	}
	*inBody = inPath
	return nil
}

// found answers a GET of one thing: 304 when the reader has it.
func found[T any](m *Matching, version int64, v T) *reply[T] {
	if version == 0 { // it is not stored: nothing says when it changes
		return &reply[T]{Status: http.StatusOK, Body: v}
	}
	tag := etag(version, v)
	if m.fresh(tag) {
		return &reply[T]{Status: http.StatusNotModified, ETag: tag}
	}
	return &reply[T]{Status: http.StatusOK, ETag: tag, Body: v}
}

// stored answers a PUT.
func stored[T any](version int64, created bool, location string, v T) *reply[T] {
	r := &reply[T]{Status: http.StatusOK, ETag: etag(version, v), Body: v}
	if created {
		r.Status, r.Location = http.StatusCreated, location
	}
	return r
}

// patching is the input of a PATCH.
type patching struct {
	ThingID
	body[object]
}

// crud registers GET, PUT, PATCH and DELETE of things kept under ids of the
// platform, or names.
type crud[T any] struct {
	name, path, tag string // e.g. "object", "/v1/objects", "Objects"
	idOf            func(*T) *string
	pointer         string // of the id in the body
	get             func(ctx context.Context, tenant, id string) (T, int64, error)
	put             func(ctx context.Context, by By, v T, match Expect) (T, int64, bool, error)
	drop            func(ctx context.Context, by By, id string, match Expect) error
	detail          string // of PUT
}

func (k crud[T]) routes(s *Server) {
	title := string(k.name[0]-'a'+'A') + k.name[1:]
	item := k.path + "/{id}"
	route(s, spec{id: "get" + title, method: http.MethodGet, path: item, tag: k.tag, may: auth.Read, summary: "Get one"},
		func(ctx context.Context, c *call, in *ThingID) (*reply[T], error) {
			v, version, err := k.get(ctx, c.tenant(), string(in.ID))
			if err != nil {
				return nil, err
			}
			return found(&in.Matching, version, v), nil
		})
	type putting struct {
		ThingID
		body[T]
	}
	route(s, spec{id: "put" + title, method: http.MethodPut, path: item, tag: k.tag, may: auth.Admin, summary: "Create or replace one", detail: k.detail},
		func(ctx context.Context, c *call, in *putting) (*reply[T], error) {
			if err := sameID(k.idOf(&in.Value), string(in.ID), k.pointer); err != nil {
				return nil, err
			}
			match, err := in.expect()
			if err != nil {
				return nil, err
			}
			v, version, created, err := k.put(ctx, c.by(), in.Value, match)
			if err != nil {
				return nil, err
			}
			return stored(version, created, k.path+"/"+encodePathID(string(in.ID)), v), nil
		})
	route(s, spec{id: "patch" + title, method: http.MethodPatch, path: item, tag: k.tag, may: auth.Admin, summary: "Change parts of one", detail: "JSON Merge Patch (RFC 7396): null removes a member."},
		func(ctx context.Context, c *call, in *patching) (*reply[T], error) {
			match, err := in.expect()
			if err != nil {
				return nil, err
			}
			v, version, err := patch(ctx, in.Value, match,
				func() (T, int64, error) { return k.get(ctx, c.tenant(), string(in.ID)) },
				func(v T, version int64) (T, int64, error) {
					if err := sameID(k.idOf(&v), string(in.ID), k.pointer); err != nil {
						return v, 0, err
					}
					v, version, _, err := k.put(ctx, c.by(), v, &version)
					return v, version, err
				})
			if err != nil {
				return nil, err
			}
			return stored(version, false, "", v), nil
		})
	mergePatch[T](s, item)
	route(s, spec{id: "delete" + title, method: http.MethodDelete, path: item, tag: k.tag, may: auth.Admin, summary: "Delete one"},
		func(ctx context.Context, c *call, in *ThingID) (*nothing, error) {
			match, err := in.expect()
			if err != nil {
				return nil, err
			}
			return &nothing{}, k.drop(ctx, c.by(), string(in.ID), match)
		})
}

// mergePatch describes the body of a PATCH.
func mergePatch[T any](s *Server, path string) {
	op := operationAt(s.huma.OpenAPI(), http.MethodPatch, path)
	schema := s.huma.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[T](), true, "")
	op.RequestBody.Content = map[string]*huma.MediaType{"application/merge-patch+json": {Schema: schema}}
}

// patch reads a thing, merges change into it and stores it, again when
// somebody else was quicker; match, when given, must hold for what is read.
func patch[T any](ctx context.Context, change object, match Expect, get func() (T, int64, error), put func(T, int64) (T, int64, error)) (T, int64, error) {
	for try := 0; ; try++ {
		old, version, err := get()
		if err != nil {
			return old, 0, err
		}
		if match != nil && *match != version {
			return old, 0, belfry.Errorf(belfry.Stale, "it was changed meanwhile: read it again and repeat the edit")
		}
		merged, err := merge(old, change)
		if err != nil {
			return old, 0, err
		}
		v, now, err := put(merged, version)
		if err != nil && belfry.KindOf(err) == belfry.Stale && match == nil && try < 5 && ctx.Err() == nil {
			continue
		}
		return v, now, err
	}
}

// merge applies a merge patch to v (RFC 7396) and reads the outcome strictly.
func merge[T any](v T, change object) (T, error) {
	var out T
	text, err := json.Marshal(v)
	if err != nil {
		return out, err
	}
	raw, err := mergeJSON(text, change)
	if err != nil {
		return out, err
	}
	err = decodeStrict(raw, &out)
	return out, err
}

func mergeJSON(old json.RawMessage, change object) (json.RawMessage, error) {
	var members object
	if json.Unmarshal(old, &members) != nil || members == nil {
		members = object{} // not an object: the patch replaces it
	}
	for name, value := range change {
		if string(value) == "null" {
			delete(members, name)
			continue
		}
		var nested object
		if value[0] == '{' && json.Unmarshal(value, &nested) == nil {
			merged, err := mergeJSON(members[name], nested)
			if err != nil {
				return nil, err
			}
			members[name] = merged
			continue
		}
		members[name] = value
	}
	return json.Marshal(members)
}

func (s *Server) objectRoutes() {
	crud[belfry.Object]{name: "object", path: "/v1/objects", tag: "Objects",
		idOf: func(o *belfry.Object) *string { return &o.ID }, pointer: "/id",
		get: s.Manage.Object, put: s.Manage.PutObject, drop: s.Manage.DeleteObject,
		detail: "Fields not given are reset. Deleting an object ends everything under it."}.routes(s)
	route(s, spec{id: "putObjects", method: http.MethodPost, path: "/v1/objects:batch", tag: "Objects", may: auth.Admin, max: maxBatchBytes,
		summary: "Create or replace many", detail: "Whole or not at all; parents may follow children."},
		func(ctx context.Context, c *call, in *batch[belfry.Object]) (*reply[BatchReceipt], error) {
			return storeBatch(in.Value, func() error { return s.Manage.PutObjects(ctx, c.by(), in.Value) })
		})
	route(s, spec{id: "getObjectSettings", method: http.MethodGet, path: "/v1/objects/{id}/settings", tag: "Objects", may: auth.Read, summary: "Get an object's settings",
		detail: "How subscriptions are looked up from the object and below it, and who is told there; those of root are the whole tree's."},
		func(ctx context.Context, c *call, in *ThingPath) (*reply[belfry.ObjectSettings], error) {
			v, err := s.Manage.ObjectSettings(ctx, c.tenant(), string(in.ID))
			return &reply[belfry.ObjectSettings]{Status: http.StatusOK, Body: v}, err
		})
	type puttingSettings struct {
		ThingPath
		body[belfry.ObjectSettings]
	}
	route(s, spec{id: "putObjectSettings", method: http.MethodPut, path: "/v1/objects/{id}/settings", tag: "Objects", may: auth.Admin, summary: "Replace an object's settings",
		detail: "lookup: merge (all objects on the way up count) or nearest (of administrators' subscriptions only those of the closest object that has any for the event's type). stop: those above the object do not apply. own_subscriptions: nearest ends here, though there are none. flags: notify_no_local (on the object and directly in it), notify_local_only and silent (on it and below). People's own subscriptions always apply. Putting the object again does not touch them."},
		func(ctx context.Context, c *call, in *puttingSettings) (*reply[belfry.ObjectSettings], error) {
			v, err := s.Manage.PutObjectSettings(ctx, c.by(), string(in.ID), in.Value)
			return &reply[belfry.ObjectSettings]{Status: http.StatusOK, Body: v}, err
		})
	route(s, spec{id: "getGrants", method: http.MethodGet, path: "/v1/objects/{id}/grants", tag: "Objects", may: auth.Read, summary: "List the grants on an object"},
		func(ctx context.Context, c *call, in *ThingID) (*reply[list[belfry.Grant]], error) {
			gs, err := s.Manage.Grants(ctx, c.tenant(), string(in.ID))
			if err != nil {
				return nil, err
			}
			return listOf(gs, ""), nil
		})
	type puttingGrants struct {
		ThingID
		body[[]belfry.Grant]
	}
	route(s, spec{id: "putGrants", method: http.MethodPut, path: "/v1/objects/{id}/grants", tag: "Objects", may: auth.Admin, max: maxBatchBytes,
		summary: "Replace the grants on an object", detail: "Only those of the caller's origin (the key's name) are replaced; those of others stay."},
		func(ctx context.Context, c *call, in *puttingGrants) (*reply[list[belfry.Grant]], error) {
			if err := batchSize(in.Value); err != nil {
				return nil, err
			}
			for i := range in.Value {
				if err := sameID(&in.Value[i].Object, string(in.ID), "/"+strconv.Itoa(i)+"/object"); err != nil {
					return nil, err
				}
			}
			set := belfry.GrantSet{Object: string(in.ID), Grants: in.Value}
			if err := s.Manage.PutGrants(ctx, c.by(), []belfry.GrantSet{set}); err != nil {
				return nil, err
			}
			gs, err := s.Manage.Grants(ctx, c.tenant(), string(in.ID))
			if err != nil {
				return nil, err
			}
			return listOf(gs, ""), nil
		})
	route(s, spec{id: "putGrantSets", method: http.MethodPost, path: "/v1/grants:batch", tag: "Objects", may: auth.Admin, max: maxBatchBytes,
		summary: "Replace the grants on many objects",
		detail:  "An array of {\"object\", \"grants\"}; with \"principal\" too, only that principal's grants on the object are replaced. Only grants of the caller's origin are touched. Whole or not at all."},
		func(ctx context.Context, c *call, in *batch[grantSet]) (*reply[BatchReceipt], error) {
			return storeBatch(in.Value, func() error {
				sets := make([]belfry.GrantSet, 0, len(in.Value))
				for _, g := range in.Value {
					sets = append(sets, belfry.GrantSet{Object: g.Object, Principal: g.Principal, Grants: g.Grants})
				}
				err := s.Manage.PutGrants(ctx, c.by(), sets)
				if len(sets) == 1 {
					return nest(err, "/0/grants") // a single set's pointers begin within it
				}
				return err
			})
		})
	s.historyRoutes()
}

// unnest takes a prefix off the pointers of a fault, for callers who sent only
// the inner part.
func unnest(err error, prefix string) error {
	return repoint(err, func(p string) string {
		rest, _ := cutPointer(p, prefix)
		return rest
	})
}

// nest puts a prefix before the pointers of a fault, for callers who sent more
// than the inner part.
func nest(err error, prefix string) error {
	return repoint(err, func(p string) string { return prefix + p })
}

func repoint(err error, to func(string) string) error {
	var e *belfry.Error
	if !errors.As(err, &e) || len(e.Fields) == 0 {
		return err
	}
	fields := make([]belfry.Field, 0, len(e.Fields))
	for _, f := range e.Fields {
		fields = append(fields, belfry.Field{Pointer: to(f.Pointer), Message: f.Message})
	}
	moved := belfry.Faults(fields).(*belfry.Error) // never nil: there are fields
	moved.Kind, moved.Cause, moved.RetryAfter = e.Kind, e.Cause, e.RetryAfter
	return moved
}

func cutPointer(pointer, prefix string) (string, bool) {
	if pointer == prefix {
		return "", true
	}
	n := len(prefix)
	if len(pointer) > n && pointer[:n] == prefix && pointer[n] == '/' {
		return pointer[n:], true
	}
	return pointer, false
}

// grantSet is a belfry.GrantSet as it is written.
type grantSet struct {
	Object    string         `json:"object"`
	Principal string         `json:"principal,omitempty"`
	Grants    []belfry.Grant `json:"grants"`
}

func storeBatch[T any](items []T, store func() error) (*reply[BatchReceipt], error) {
	if err := batchSize(items); err != nil {
		return nil, err
	}
	if len(items) > 0 {
		if err := store(); err != nil {
			return nil, err
		}
	}
	return &reply[BatchReceipt]{Status: http.StatusOK, Body: BatchReceipt{Stored: len(items)}}, nil
}

func (s *Server) historyRoutes() {
	type readHistory struct {
		ID PathID `path:"id"`
		Paging
	}
	route(s, spec{id: "getHistory", method: http.MethodGet, path: "/v1/objects/{id}/history", tag: "Objects", may: auth.Read, summary: "List the workflow history of an object"},
		func(ctx context.Context, c *call, in *readHistory) (*reply[list[belfry.HistoryEntry]], error) {
			entries, next, err := s.Manage.History(ctx, c.tenant(), string(in.ID), in.After, in.Limit)
			if err != nil {
				return nil, err
			}
			return listOf(entries, next), nil
		})
	type addHistory struct {
		ID PathID `path:"id"`
		Keyed
		body[[]belfry.HistoryEntry]
	}
	route(s, spec{id: "addHistory", method: http.MethodPost, path: "/v1/objects/{id}/history", tag: "Objects", may: auth.Admin, max: maxBatchBytes, summary: "Add to the workflow history of an object"},
		func(ctx context.Context, c *call, in *addHistory) (*reply[BatchReceipt], error) {
			for i := range in.Value {
				if err := sameID(&in.Value[i].Object, string(in.ID), "/"+strconv.Itoa(i)+"/object"); err != nil {
					return nil, err
				}
			}
			return storeBatch(in.Value, func() error { return s.Manage.AddHistory(ctx, c.by(), in.Value) })
		})
	route(s, spec{id: "addHistories", method: http.MethodPost, path: "/v1/history:batch", tag: "Objects", may: auth.Admin, max: maxBatchBytes, summary: "Add to the workflow history of many objects"},
		func(ctx context.Context, c *call, in *batch[belfry.HistoryEntry]) (*reply[BatchReceipt], error) {
			return storeBatch(in.Value, func() error { return s.Manage.AddHistory(ctx, c.by(), in.Value) })
		})
	type here struct {
		ID PathID `path:"id"`
		Paging
		Type string `query:"type" doc:"Only those that ask for this event type" maxLength:"255"`
	}
	route(s, spec{id: "listSubscriptionsHere", method: http.MethodGet, path: "/v1/objects/{id}/subscriptions", tag: "Objects", may: auth.Read,
		summary: "List the subscriptions that apply at an object", detail: "Those whose scope holds the object, from it up to the root."},
		func(ctx context.Context, c *call, in *here) (*reply[list[belfry.Subscription]], error) {
			subs, next, err := s.Manage.Subscriptions(ctx, c.tenant(), SubscriptionQuery{Type: in.Type, Object: string(in.ID), After: in.After, Limit: in.Limit})
			if err != nil {
				return nil, err
			}
			return listOf(subs, next), nil
		})
}

package api

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/belfryhq/belfry/internal/auth"
	"github.com/belfryhq/belfry/internal/belfry"
)

// Tenant is one platform.
type Tenant struct {
	ID      string     `json:"id"`
	Title   string     `json:"title,omitempty"`
	Created *time.Time `json:"created,omitempty"`

	Limits map[string]belfry.ChannelLimit `json:"limits,omitempty" doc:"What it may send in all by channels of the server's configuration, by channel"`
	Usage  map[string]belfry.ChannelUsage `json:"usage,omitempty" doc:"How much of each of them is used"`
}

// TenantDraft is a tenant to be made or changed.
type TenantDraft struct {
	Title string `json:"title,omitempty"`

	Limits map[string]belfry.ChannelLimit `json:"limits,omitempty" doc:"What it may send in all by channels of the server's configuration, by channel"`
}

// TenantID names a tenant in a path.
type TenantID struct {
	ID string `path:"id" pattern:"^[a-z0-9][a-z0-9_-]{0,62}$" patternDescription:"1 to 63 lower-case letters, digits, _ and -"`
}

// KeyID names a key in a path.
type KeyID struct {
	ID string `path:"id" doc:"key_..."`
}

// nothing is the output of calls that answer 204.
type nothing struct{}

func (s *Server) keyRoutes() {
	route(s, spec{id: "issueKey", method: http.MethodPost, path: "/v1/keys", tag: "Keys", status: http.StatusCreated,
		summary: "Issue a key", detail: "The token is in this answer and never again. Needs the permission admin or issue_key, and every permission that the key is to have."},
		func(ctx context.Context, c *call, in *struct {
			Keyed
			body[auth.KeyDraft]
		}) (*reply[auth.IssuedKey], error) {
			k, err := s.Auth.Issue(ctx, c.who, in.Value)
			if err != nil {
				return nil, err
			}
			return &reply[auth.IssuedKey]{Status: http.StatusCreated, Location: "/v1/keys/" + k.ID, Body: k}, nil
		})
	route(s, spec{id: "listKeys", method: http.MethodGet, path: "/v1/keys", tag: "Keys", may: auth.Admin, summary: "List keys"},
		func(ctx context.Context, c *call, in *struct{ Paging }) (*reply[list[auth.Key]], error) {
			keys, next, err := s.Auth.Keys(ctx, c.who, in.After, in.Limit)
			if err != nil {
				return nil, err
			}
			return listOf(keys, next), nil
		})
	route(s, spec{id: "getKey", method: http.MethodGet, path: "/v1/keys/{id}", tag: "Keys", may: auth.Admin, summary: "Get one key"},
		func(ctx context.Context, c *call, in *KeyID) (*reply[auth.Key], error) {
			k, err := s.Auth.Key(ctx, c.who, in.ID)
			if err != nil {
				return nil, err
			}
			return &reply[auth.Key]{Status: http.StatusOK, Body: k}, nil
		})
	route(s, spec{id: "revokeKey", method: http.MethodDelete, path: "/v1/keys/{id}", tag: "Keys", may: auth.Admin, summary: "Revoke a key",
		detail: "It is refused from then on."},
		func(ctx context.Context, c *call, in *KeyID) (*nothing, error) {
			return &nothing{}, s.Auth.Revoke(ctx, c.who, in.ID)
		})
	s.tenantRoutes()
	route(s, spec{id: "listAudit", method: http.MethodGet, path: "/v1/audit", tag: "Audit", may: auth.Admin, summary: "List who changed what, newest first"},
		func(ctx context.Context, c *call, in *struct{ Paging }) (*reply[list[belfry.AuditEntry]], error) {
			entries, next, err := s.Documents.Audit(ctx, c.tenant(), in.After, in.Limit)
			if err != nil {
				return nil, err
			}
			return listOf(entries, next), nil
		})
}

func (s *Server) tenantRoutes() {
	route(s, spec{id: "listTenants", method: http.MethodGet, path: "/v1/tenants", tag: "Tenants", root: true, summary: "List tenants"},
		func(ctx context.Context, _ *call, in *struct{ Paging }) (*reply[list[Tenant]], error) {
			docs, err := s.Documents.Documents(ctx, belfry.AllTenants, belfry.KindTenant, in.After, in.Limit+1)
			if err != nil {
				return nil, err
			}
			next := ""
			if len(docs) > in.Limit {
				docs = docs[:in.Limit]
				next = docs[in.Limit-1].ID
			}
			tenants := make([]Tenant, 0, len(docs)+1)
			if in.After == "" {
				tenants = append(tenants, Tenant{ID: belfry.DefaultTenant})
			}
			for _, d := range docs {
				t, err := tenantOf(d)
				if err != nil {
					return nil, err
				}
				if t.ID == belfry.DefaultTenant && in.After == "" {
					tenants[0] = t // it was given a title
					continue
				}
				tenants = append(tenants, t)
			}
			for i := range tenants {
				if err := s.withUsage(ctx, &tenants[i]); err != nil {
					return nil, err
				}
			}
			return listOf(tenants, next), nil
		})
	route(s, spec{id: "getTenant", method: http.MethodGet, path: "/v1/tenants/{id}", tag: "Tenants", root: true, summary: "Get one tenant",
		detail: "With how much of its limits is used. A tenant's own keys see the same of each channel in /v1/channels."},
		func(ctx context.Context, _ *call, in *TenantID) (*reply[Tenant], error) {
			d, there, err := s.Documents.Document(ctx, belfry.AllTenants, belfry.KindTenant, in.ID)
			switch {
			case err != nil:
				return nil, err
			case !there && in.ID == belfry.DefaultTenant:
				return &reply[Tenant]{Status: http.StatusOK, Body: Tenant{ID: in.ID}}, nil
			case !there:
				return nil, belfry.Errorf(belfry.NotFound, "there is no tenant %s: PUT /v1/tenants/%[1]s makes it", in.ID)
			}
			t, err := tenantOf(d)
			if err != nil {
				return nil, err
			}
			if err := s.withUsage(ctx, &t); err != nil {
				return nil, err
			}
			return &reply[Tenant]{Status: http.StatusOK, Body: t}, nil
		})
	route(s, spec{id: "putTenant", method: http.MethodPut, path: "/v1/tenants/{id}", tag: "Tenants", root: true, summary: "Create or change a tenant"},
		func(ctx context.Context, c *call, in *struct {
			TenantID
			body[TenantDraft]
		}) (*reply[Tenant], error) {
			if len(in.Value.Title) > 200 {
				return nil, belfry.Faults([]belfry.Field{{Pointer: "/title", Message: "has at most 200 bytes"}})
			}
			if err := s.Manage.CheckTenantLimits(in.Value.Limits); err != nil {
				return nil, err
			}
			now := s.Now()
			t := Tenant{ID: in.ID, Title: in.Value.Title, Created: &now, Limits: in.Value.Limits}
			status, action := http.StatusCreated, "tenant.create"
			old, found, err := s.Documents.Document(ctx, belfry.AllTenants, belfry.KindTenant, in.ID)
			if err != nil {
				return nil, err
			}
			if found {
				before, err := tenantOf(old)
				if err != nil {
					return nil, err
				}
				t.Created, status, action = before.Created, http.StatusOK, "tenant.change"
			}
			text, err := json.Marshal(t)
			if err != nil {
				return nil, err
			}
			_, err = s.Documents.Apply(ctx, belfry.Changes{Tenant: belfry.AllTenants,
				Documents: []belfry.Document{{Kind: belfry.KindTenant, ID: in.ID, Body: text}},
				Audit:     []belfry.AuditEntry{{At: now, Who: c.who.Who(), Action: action, Target: in.ID}}})
			if err != nil {
				return nil, err
			}
			return &reply[Tenant]{Status: status, Location: "/v1/tenants/" + in.ID, Body: t}, nil
		})
}

// withUsage adds how much of its limits a tenant has used.
func (s *Server) withUsage(ctx context.Context, t *Tenant) (err error) {
	t.Usage, err = s.Manage.TenantUsage(ctx, t.ID, t.Limits)
	return err
}

func tenantOf(d belfry.Document) (Tenant, error) {
	var t Tenant
	if err := json.Unmarshal(d.Body, &t); err != nil {
		return t, belfry.Errorf(belfry.Internal, "tenant %s cannot be read: %w", d.ID, err)
	}
	t.ID = d.ID
	return t, nil
}

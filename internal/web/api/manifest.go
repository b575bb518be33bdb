package api

import (
	"context"
	"net/http"

	"github.com/belfryhq/belfry/internal/auth"
	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/manage"
)

// ManifestManager takes and gives the whole configuration of a tenant.
type ManifestManager interface {
	Configuration(ctx context.Context, tenant string) (manage.Manifest, error)
	ApplyManifest(ctx context.Context, by By, file manage.Manifest, o manage.ApplyOptions) (manage.ManifestReport, error)
	Manifests(ctx context.Context, tenant, after string, limit int) ([]belfry.AppliedManifest, string, error)
}

func (s *Server) manifestRoutes() {
	const base = "/v1/configuration"
	route(s, spec{id: "getConfiguration", method: http.MethodGet, path: base, tag: "Configuration", may: auth.Read, summary: "Write the tenant's configuration as a manifest",
		detail: "Channels, event types, filters, templates, groups, endpoints, presets and where they are on, administrators' subscriptions, settings and sources, as people declared them: not what sources write, what people subscribed to, nor secrets and headers. Instead of a secret setting it says secret: kept."},
		func(ctx context.Context, c *call, _ *struct{}) (*reply[manage.Manifest], error) {
			v, err := s.Manage.Configuration(ctx, c.tenant())
			if err != nil {
				return nil, err
			}
			return &reply[manage.Manifest]{Status: http.StatusOK, Body: v}, nil
		})
	route(s, spec{id: "applyConfiguration", method: http.MethodPost, path: base + ":apply", tag: "Configuration", may: auth.Admin, max: maxBatchBytes, summary: "Bring the tenant's configuration to what a manifest says",
		detail: "All of it is checked first, by the checks of each thing's own call: when something is wrong nothing is done. Applied again it changes nothing. Things that are not in the manifest stay; with prune, those go that it made before, " +
			"of the parts it has. A secret setting that says secret: kept stays as it is stored. A thing of endpoints or subscriptions is known by its name: one of the manifest's own, or the id of one that is there."},
		func(ctx context.Context, c *call, in *struct {
			Keyed
			DryRun bool `query:"dry_run" doc:"Say what would change, and change nothing"`
			Prune  bool `query:"prune" doc:"Remove what the manifest of this name made before and does not hold any more"`
			body[manage.Manifest]
		}) (*reply[manage.ManifestReport], error) {
			v, err := s.Manage.ApplyManifest(ctx, c.by(), in.Value, manage.ApplyOptions{DryRun: in.DryRun, Prune: in.Prune})
			if err != nil {
				return nil, err
			}
			return &reply[manage.ManifestReport]{Status: http.StatusOK, Body: v}, nil
		})
	route(s, spec{id: "listManifests", method: http.MethodGet, path: base + "/manifests", tag: "Configuration", may: auth.Read, summary: "List the manifests that were applied, with what they keep"},
		func(ctx context.Context, c *call, in *struct{ Paging }) (*reply[list[belfry.AppliedManifest]], error) {
			ms, next, err := s.Manage.Manifests(ctx, c.tenant(), in.After, in.Limit)
			if err != nil {
				return nil, err
			}
			return listOf(ms, next), nil
		})
}

package manage

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

// ManifestFormat is the form of manifests that this version writes and reads.
const ManifestFormat = 1

// Manifest is a tenant's configuration as a file. A part that is absent is not
// looked at; one that is empty is one without entries.
type Manifest struct {
	Belfry        int                    `json:"belfry" doc:"The form of the file: 1"`
	Name          string                 `json:"name,omitempty" doc:"Under which what it made is remembered; absent = default"`
	Channels      []ManifestConfigured   `json:"channels,omitempty"`
	EventTypes    []belfry.EventType     `json:"event_types,omitempty"`
	Filters       []belfry.SavedFilter   `json:"filters,omitempty"`
	Templates     []belfry.Template      `json:"templates,omitempty"`
	Groups        []belfry.Group         `json:"groups,omitempty"`
	Endpoints     []ManifestEndpoint     `json:"endpoints,omitempty" doc:"Without secrets: one is made, and shown once, where there is none yet"`
	Presets       []belfry.Preset        `json:"presets,omitempty"`
	Subscriptions []ManifestSubscription `json:"subscriptions,omitempty"`
	Settings      *belfry.TenantSettings `json:"settings,omitempty"`
	Sources       []ManifestConfigured   `json:"sources,omitempty"`
	PresetsOn     []ManifestPresetOn     `json:"presets_on,omitempty" doc:"Where presets are switched on: the objects are there already"`
}

// ManifestEndpoint is an endpoint under a name, by which the file speaks of it.
type ManifestEndpoint struct {
	Name string `json:"name" doc:"Of the file's own, or the id of an endpoint that is there"`
	belfry.Endpoint
	ID      string    `json:"id,omitempty"`
	State   string    `json:"state,omitempty"`
	Created time.Time `json:"created,omitzero"`
	Version int64     `json:"version,omitempty"`
}

// ManifestSubscription is a subscription under a name.
type ManifestSubscription struct {
	Name string `json:"name" doc:"Of the file's own, or the id of a subscription that is there"`
	belfry.PresetSubscription
}

// Parts of a manifest.
const (
	partChannels      = "channels"
	partSources       = "sources"
	partPresetsOn     = "presets_on"
	partEventTypes    = "event_types"
	partFilters       = "filters"
	partTemplates     = "templates"
	partGroups        = "groups"
	partEndpoints     = "endpoints"
	partPresets       = "presets"
	partSubscriptions = "subscriptions"
	partSettings      = "settings"
)

// partOrder is the order in which things need each other.
var partOrder = []string{partChannels, partEventTypes, partFilters, partTemplates, partGroups, partEndpoints, partPresets, partSubscriptions, partSettings, partSources, partPresetsOn}

// ApplyOptions say what is done with a manifest.
type ApplyOptions struct {
	DryRun bool
	Prune  bool // remove what it made before and does not hold any more
}

// What becomes of a thing.
const (
	ManifestCreate    = "create"
	ManifestUpdate    = "update"
	ManifestUnchanged = "unchanged"
	ManifestDelete    = "delete"
	ManifestLeft      = "left" // made by it before, not in it any more, and not pruned
)

// ManifestChange is what becomes of a thing.
type ManifestChange struct {
	Kind   string         `json:"kind"`
	Name   string         `json:"name"`
	ID     string         `json:"id,omitempty" doc:"Of endpoints and subscriptions"`
	Action string         `json:"action" enum:"create,update,unchanged,delete,left"`
	Diff   []ManifestDiff `json:"diff,omitempty" doc:"Of an update: at most 100 places"`
	Secret string         `json:"secret,omitempty" doc:"Of an endpoint that was made; shown this once"`
	// Warnings are those of storing the thing, also of one that does not change.
	Warnings []string `json:"warnings,omitempty" doc:"What is allowed but perhaps not meant"`
}

// ManifestDiff is a place that changes.
type ManifestDiff struct {
	Pointer string          `json:"pointer"`
	Before  json.RawMessage `json:"before,omitempty" doc:"Absent when there was nothing"`
	After   json.RawMessage `json:"after,omitempty" doc:"Absent when there is nothing any more"`
}

// ManifestReport is what applying a manifest does.
type ManifestReport struct {
	Name      string           `json:"name"`
	DryRun    bool             `json:"dry_run,omitempty"`
	Changes   []ManifestChange `json:"changes"`
	Created   int              `json:"created"`
	Updated   int              `json:"updated"`
	Unchanged int              `json:"unchanged"`
	Deleted   int              `json:"deleted"`
	Left      int              `json:"left"`
}

const (
	maxManifest = 10_000 // things
	maxDiff     = 100
)

// item is a thing of a manifest: how it is looked at, stored and removed, by the
// ways of everybody else.
type item struct {
	belfry.Kept
	pointer string
	look    func(m *Manager) (any, error) // NotFound when it is not there
	put     func(m *Manager) (secret string, err error)
	warn    func(m *Manager) ([]string, error) // of it as it would stand; nil = it has none
}

// ApplyManifest brings the tenant's configuration to what a manifest says. All of
// it is checked first, each thing by the checks of its own call and with those
// before it in place: when something is wrong nothing is done. Applied again it
// changes nothing.
func (m *Manager) ApplyManifest(ctx context.Context, by By, file Manifest, o ApplyOptions) (ManifestReport, error) {
	if file.Name == "" {
		file.Name = "default"
	}
	f := &faults{}
	f.name("/name", file.Name)
	if file.Belfry != ManifestFormat {
		f.add("/belfry", "is the form of the file: write %d", ManifestFormat)
	}
	if n := len(file.EventTypes) + len(file.Filters) + len(file.Templates) + len(file.Groups) + len(file.Endpoints) + len(file.Presets) + len(file.Subscriptions) +
		len(file.Channels) + len(file.Sources) + len(file.PresetsOn); n > maxManifest {
		f.add("", "has %d things: at most %d are taken at once, make several manifests with names of their own", n, maxManifest)
	}
	if err := f.err(); err != nil {
		return ManifestReport{}, err
	}
	items, err := m.items(ctx, by, &file, f)
	if err != nil {
		return ManifestReport{}, err
	}
	seen := map[string]bool{}
	for _, it := range items {
		key := thingOf(it.Kept)
		if seen[key] {
			f.add(it.pointer, "%q comes twice", it.Name)
		}
		seen[key] = true
	}
	if err := f.err(); err != nil {
		return ManifestReport{}, err
	}

	before, _, err := m.kept(ctx, by.Tenant, file.Name)
	if err != nil {
		return ManifestReport{}, err
	}
	plan := m.planning()
	report := ManifestReport{Name: file.Name, DryRun: o.DryRun, Changes: []ManifestChange{}}
	next := belfry.AppliedManifest{Name: file.Name, Entries: []belfry.Kept{}, At: m.now(), By: by.Who}
	for i := range items {
		it := &items[i]
		change, found, err := m.plan(plan, it)
		if err != nil {
			if err = f.part(it.pointer, err); err != nil {
				return report, err
			}
			continue
		}
		it.Made = !found || slices.ContainsFunc(before.Entries, func(k belfry.Kept) bool { return k.Made && thingOf(k) == thingOf(it.Kept) })
		next.Entries = append(next.Entries, it.Kept)
		report.Changes = append(report.Changes, change)
	}
	gone, err := m.gone(ctx, by, &file, before.Entries, seen)
	if err != nil {
		return report, err
	}
	var drops []belfry.Kept
	for _, k := range gone {
		there, drops1, err := m.planDrop(ctx, plan, by, k, o.Prune)
		if err != nil {
			if err = f.part("/"+k.Kind, fmt.Errorf("%s: %w", k.Name, err)); err != nil {
				return report, err
			}
			continue
		}
		if there == "" {
			continue // somebody else removed it
		}
		report.Changes = append(report.Changes, ManifestChange{Kind: k.Kind, Name: k.Name, ID: k.ID, Action: there})
		if drops1 {
			drops = append(drops, k)
		} else {
			next.Entries = append(next.Entries, k)
		}
	}
	for _, k := range before.Entries { // parts that the file does not speak of stay as they are
		if !seen[thingOf(k)] && !slices.Contains(gone, k) {
			next.Entries = append(next.Entries, k)
		}
	}
	if err := f.err(); err != nil {
		return report, err
	}
	report.count()
	if o.DryRun {
		return report, nil
	}
	return report, m.carryOut(ctx, by, &report, items, drops, before, next)
}

func (r *ManifestReport) count() {
	for _, c := range r.Changes {
		switch c.Action {
		case ManifestCreate:
			r.Created++
		case ManifestUpdate:
			r.Updated++
		case ManifestUnchanged:
			r.Unchanged++
		case ManifestDelete:
			r.Deleted++
		case ManifestLeft:
			r.Left++
		}
	}
}

// carryOut does what was planned. What the manifest keeps is written down first:
// after a crash, applying it again goes on where it stopped.
func (m *Manager) carryOut(ctx context.Context, by By, report *ManifestReport, items []item, drops []belfry.Kept, before, next belfry.AppliedManifest) error {
	write := func(entries []belfry.Kept) error {
		if reflect.DeepEqual(before.Entries, entries) {
			return nil
		}
		next.Entries = entries
		before.Entries = entries
		ch := m.change(by, "manifest.apply", next.Name)
		ch.Documents = []belfry.Document{{Kind: belfry.KindManifest, ID: next.Name, Body: mustJSON(next)}}
		_, err := m.store.Apply(ctx, ch)
		return err
	}
	kept := next.Entries
	if err := write(slices.Concat(kept, drops)); err != nil {
		return err
	}
	for i := range items {
		c := &report.Changes[i]
		if c.Action == ManifestUnchanged {
			continue
		}
		var err error
		if c.Secret, err = items[i].put(m); err != nil {
			return fmt.Errorf("%s %s: %w; what is before it in the manifest is applied: apply it again", c.Kind, c.Name, err)
		}
	}
	for _, k := range drops {
		if err := m.dropKept(ctx, m, by, k); err != nil && belfry.KindOf(err) != belfry.NotFound {
			return fmt.Errorf("%s %s: %w; apply the manifest again", k.Kind, k.Name, err)
		}
	}
	return write(kept)
}

// part notes what is wrong with a part; the server's own troubles are given back.
func (f *faults) part(pointer string, err error) error {
	var e *belfry.Error
	switch {
	case !errors.As(err, &e) || e.Kind != belfry.Invalid && e.Kind != belfry.NotFound && e.Kind != belfry.Conflict && e.Kind != belfry.TooLarge:
		return err
	case len(e.Fields) > 0:
		f.within(pointer, e.Fields)
	default:
		f.add(pointer, "%s", err)
	}
	return nil
}

// plan says what storing a thing does, by doing it where nothing is stored.
func (m *Manager) plan(plan *Manager, it *item) (c ManifestChange, found bool, err error) {
	c = ManifestChange{Kind: it.Kind, Name: it.Name, ID: it.ID, Action: ManifestCreate}
	was, err := look(m, it)
	if err != nil {
		return c, false, err
	}
	if _, err := it.put(plan); err != nil {
		return c, false, err
	}
	is, err := look(plan, it)
	if err != nil {
		return c, false, err
	}
	if it.warn != nil {
		if c.Warnings, err = it.warn(plan); err != nil {
			return c, false, err
		}
	}
	if found = was != nil; found {
		c.Diff = differences(nil, "", was, is)
		c.Action = ManifestUnchanged
		if len(c.Diff) > 0 {
			c.Action = ManifestUpdate
		}
	}
	return c, found, nil
}

// look is a thing as JSON, without what is the server's to say; nil when it is
// not there.
func look(m *Manager, it *item) (any, error) {
	v, err := it.look(m)
	if belfry.KindOf(err) == belfry.NotFound && err != nil {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out any
	if err := json.Unmarshal(mustJSON(v), &out); err != nil {
		return nil, err
	}
	if members, ok := out.(map[string]any); ok {
		for _, own := range []string{"version", "created", "combined", "readable", "resumed"} {
			delete(members, own)
		}
	}
	return out, nil
}

// differences are the places where two JSON values differ.
func differences(list []ManifestDiff, pointer string, a, b any) []ManifestDiff {
	if len(list) >= maxDiff || reflect.DeepEqual(a, b) {
		return list
	}
	x, xo := a.(map[string]any)
	y, yo := b.(map[string]any)
	if !xo || !yo {
		d := ManifestDiff{Pointer: pointer}
		if a != nil {
			d.Before = mustJSON(a)
		}
		if b != nil {
			d.After = mustJSON(b)
		}
		return append(list, d)
	}
	names := maps.Clone(x)
	maps.Copy(names, y)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		list = differences(list, pointer+"/"+escape(name), x[name], y[name])
	}
	return list
}

// items are the things of a manifest, in the order in which they need each
// other.
func (m *Manager) items(ctx context.Context, by By, file *Manifest, f *faults) ([]item, error) {
	out, err := m.channelItems(ctx, by, file, f)
	if err != nil {
		return nil, err
	}
	add := func(part string, i int, name, id string, look func(m *Manager) (any, error), put func(m *Manager) (string, error)) {
		p := "/" + part + "/" + strconv.Itoa(i)
		if name == "" {
			f.add(p, "has no name")
		}
		out = append(out, item{Kept: belfry.Kept{Kind: part, Name: name, ID: id}, pointer: p, look: look, put: put})
	}
	warn := func(warn func(m *Manager) ([]string, error)) { out[len(out)-1].warn = warn }
	for i, t := range file.EventTypes {
		add(partEventTypes, i, t.Name, "", func(m *Manager) (any, error) { v, _, err := m.EventType(ctx, by.Tenant, t.Name); return v, err },
			func(m *Manager) (string, error) { _, _, _, err := m.PutEventType(ctx, by, t, nil); return "", err })
		warn(func(m *Manager) ([]string, error) { return m.EventTypeWarnings(ctx, by.Tenant, &t) })
	}
	for i, s := range file.Filters {
		add(partFilters, i, s.Name, "", func(m *Manager) (any, error) { v, _, err := m.Filter(ctx, by.Tenant, s.Name); return v, err },
			func(m *Manager) (string, error) { _, _, _, err := m.PutFilter(ctx, by, s, nil); return "", err })
	}
	for i, t := range file.Templates {
		add(partTemplates, i, belfry.TemplateKey(t.Name, atObject(t.Object)), "", func(m *Manager) (any, error) {
			v, _, err := m.Template(ctx, by.Tenant, t.Name, t.Object)
			return v, err
		},
			func(m *Manager) (string, error) { _, _, _, err := m.PutTemplate(ctx, by, t, nil); return "", err })
	}
	for i, g := range file.Groups {
		add(partGroups, i, g.ID, "", func(m *Manager) (any, error) {
			v, _, err := m.Group(ctx, by.Tenant, g.ID)
			v.Members = slices.Sorted(slices.Values(v.Members))
			return v, err
		}, func(m *Manager) (string, error) { _, _, _, err := m.PutGroup(ctx, by, g, nil); return "", err })
	}
	endpoints := map[string]string{} // name -> id
	for i, e := range file.Endpoints {
		if given := e.ID + e.Endpoint.ID + e.State + e.Because; given != "" {
			f.add("/"+partEndpoints+"/"+strconv.Itoa(i), "id, state and because are the server's to say: leave them out")
		}
		id := e.Name
		if _, ok, err := m.store.Document(ctx, by.Tenant, belfry.KindEndpoint, id); err != nil {
			return nil, err
		} else if !ok {
			id = belfry.ManifestID(belfry.EndpointPrefix, file.Name, e.Name)
		}
		endpoints[e.Name] = id
		add(partEndpoints, i, e.Name, id, func(m *Manager) (any, error) { return m.Endpoint(ctx, by.Tenant, id) },
			func(m *Manager) (string, error) { return m.putManifestEndpoint(ctx, by, id, e.Endpoint) })
		warn(func(m *Manager) ([]string, error) { return m.EndpointWarnings(&e.Endpoint), nil })
	}
	named := func(s belfry.Subscription) belfry.Subscription {
		s.Notify = slices.Clone(s.Notify)
		for i := range s.Notify {
			if id, ok := endpoints[s.Notify[i].Endpoint]; ok {
				s.Notify[i].Endpoint = id
			}
		}
		return s
	}
	for i, p := range file.Presets {
		p.Subscription.Subscription = named(p.Subscription.Subscription)
		add(partPresets, i, p.Name, "", func(m *Manager) (any, error) { v, _, err := m.Preset(ctx, by.Tenant, p.Name); return v, err },
			func(m *Manager) (string, error) { _, _, _, err := m.PutPreset(ctx, by, p, nil); return "", err })
		warn(func(m *Manager) ([]string, error) { return m.PresetWarnings(ctx, by.Tenant, &p) })
	}
	for i, v := range file.Subscriptions {
		s := named(v.Subscription)
		if given := v.ID + s.ID + v.State + s.State + s.Because + s.Origin + s.Preset; given != "" {
			f.add("/"+partSubscriptions+"/"+strconv.Itoa(i), "id, state, because, origin and preset are the server's to say: leave them out")
		}
		s.ID = v.Name
		if _, ok, err := m.store.Subscription(ctx, by.Tenant, s.ID); err != nil {
			return nil, err
		} else if !ok {
			s.ID = belfry.ManifestID(belfry.SubscriptionPrefix, file.Name, v.Name)
		}
		add(partSubscriptions, i, v.Name, s.ID, func(m *Manager) (any, error) {
			v, err := m.living(ctx, by.Tenant, s.ID, nil)
			if belfry.KindOf(err) == belfry.Conflict { // ended: as good as not there
				err = notFound("subscription", s.ID)
			}
			return v, err
		}, func(m *Manager) (string, error) { return "", m.putManifestSubscription(ctx, by, s) })
		warn(func(m *Manager) ([]string, error) {
			s, err := m.Subscription(ctx, by.Tenant, s.ID)
			return s.Warnings, err
		})
	}
	if file.Settings != nil {
		out = append(out, item{Kept: belfry.Kept{Kind: partSettings, Name: belfry.TenantSettingsID}, pointer: "/" + partSettings,
			look: func(m *Manager) (any, error) { v, _, err := m.TenantSettings(ctx, by.Tenant); return v, err },
			put: func(m *Manager) (string, error) {
				s := *file.Settings
				if a := s.Authoriser; a != nil {
					if id, ok := endpoints[a.Endpoint]; ok {
						copied := *a
						copied.Endpoint = id
						s.Authoriser = &copied
					}
				}
				_, _, err := m.PutTenantSettings(ctx, by, s, nil)
				return "", err
			}})
	}
	sources, err := m.sourceItems(ctx, by, file, f)
	if err != nil {
		return nil, err
	}
	return append(append(out, sources...), m.presetItems(ctx, by, file)...), nil
}

// putManifestEndpoint makes or changes an endpoint under its id. Headers that
// are absent stay as they are: they are often secrets, which files leave out.
func (m *Manager) putManifestEndpoint(ctx context.Context, by By, id string, e belfry.Endpoint) (string, error) {
	have, err := m.Endpoint(ctx, by.Tenant, id)
	e.ID = id
	switch {
	case err == nil:
		if e.Headers == nil {
			e.Headers = have.Headers
		}
		_, err = m.PutEndpoint(ctx, by, e, nil)
		return "", err
	case belfry.KindOf(err) != belfry.NotFound:
		return "", err
	}
	_, shown, err := m.createEndpoint(ctx, by, e)
	return shown, err
}

// putManifestSubscription makes or changes a subscription under its id; one that
// had ended begins again.
func (m *Manager) putManifestSubscription(ctx context.Context, by By, s belfry.Subscription) error {
	have, found, err := m.store.Subscription(ctx, by.Tenant, s.ID)
	if err != nil {
		return err
	}
	if found && have.State != belfry.SubscriptionEnded {
		_, err = m.PutSubscription(ctx, by, s, nil)
		return err
	}
	if len(s.Filters) > 0 { // none of them may go meanwhile
		defer m.lock(by.Tenant)()
	}
	s.State, s.Because, s.Created, s.Version, s.Origin, s.Preset = belfry.SubscriptionActive, "", m.now(), 0, belfry.FromManifest, ""
	known, err := m.checkSubscription(ctx, by.Tenant, &s)
	if err != nil {
		return err
	}
	_, err = m.saveSubscription(ctx, by, "subscription.create", s, have.Version, known)
	return err
}

// thingOf tells things apart, whatever a manifest calls them.
func thingOf(k belfry.Kept) string { return k.Kind + "\x00" + reasonOr(k.ID, k.Name) }

// kept is what a manifest kept when it was applied last.
func (m *Manager) kept(ctx context.Context, tenant, name string) (k belfry.AppliedManifest, found bool, err error) {
	_, err = m.readDocument(ctx, tenant, belfry.KindManifest, name, "manifest", &k)
	if err != nil && belfry.KindOf(err) == belfry.NotFound {
		return k, false, nil
	}
	return k, err == nil, err
}

// gone are the things that a manifest made and does not hold any more, of the
// parts it speaks of, the last first. What another manifest keeps stays.
func (m *Manager) gone(ctx context.Context, by By, file *Manifest, before []belfry.Kept, seen map[string]bool) ([]belfry.Kept, error) {
	speaks := map[string]bool{partEventTypes: file.EventTypes != nil, partFilters: file.Filters != nil, partTemplates: file.Templates != nil, partGroups: file.Groups != nil,
		partEndpoints: file.Endpoints != nil, partPresets: file.Presets != nil, partSubscriptions: file.Subscriptions != nil,
		partChannels: file.Channels != nil, partSources: file.Sources != nil, partPresetsOn: file.PresetsOn != nil}
	docs, err := m.store.Documents(ctx, by.Tenant, belfry.KindManifest, "", 1000)
	if err != nil {
		return nil, err
	}
	others := map[string]bool{}
	for _, d := range docs {
		var k belfry.AppliedManifest
		if d.ID == file.Name {
			continue
		}
		if err := decodeDocument(d, "manifest", &k); err != nil {
			return nil, err
		}
		for _, e := range k.Entries {
			others[thingOf(e)] = true
		}
	}
	var out []belfry.Kept
	for _, k := range before {
		if k.Made && speaks[k.Kind] && !seen[thingOf(k)] && !others[thingOf(k)] {
			out = append(out, k)
		}
	}
	slices.SortFunc(out, func(a, b belfry.Kept) int {
		return cmp.Or(slices.Index(partOrder, b.Kind)-slices.Index(partOrder, a.Kind), strings.Compare(a.Name, b.Name))
	})
	return out, nil
}

// planDrop says what becomes of a thing that is not in the manifest any more;
// nothing when it is not there.
func (m *Manager) planDrop(ctx context.Context, plan *Manager, by By, k belfry.Kept, prune bool) (action string, drop bool, err error) {
	if !m.there(ctx, by.Tenant, k) {
		return "", false, nil
	}
	if !prune {
		return ManifestLeft, false, nil
	}
	if err := m.dropKept(ctx, plan, by, k); err != nil {
		return "", false, err
	}
	return ManifestDelete, true, nil
}

func (m *Manager) there(ctx context.Context, tenant string, k belfry.Kept) bool {
	var err error
	switch k.Kind {
	case partSubscriptions, partPresetsOn:
		_, err = m.living(ctx, tenant, k.ID, nil)
	case partChannels:
		var c *belfry.Configured
		c, err = m.configured(ctx, tenant, belfry.KindChannel, k.Name)
		return c != nil && err == nil
	case partSources:
		_, _, err = m.Source(ctx, tenant, k.ID)
	case partEndpoints:
		_, err = m.Endpoint(ctx, tenant, k.ID)
	case partEventTypes:
		_, _, err = m.EventType(ctx, tenant, k.Name)
	case partFilters:
		_, _, err = m.Filter(ctx, tenant, k.Name)
	case partPresets:
		_, _, err = m.Preset(ctx, tenant, k.Name)
	case partGroups:
		_, _, err = m.Group(ctx, tenant, k.Name)
	case partTemplates:
		name, at := belfry.SplitTemplateKey(k.Name)
		_, _, err = m.Template(ctx, tenant, name, at)
	}
	return err == nil
}

// dropKept removes a thing, by the way of its own call.
func (*Manager) dropKept(ctx context.Context, m *Manager, by By, k belfry.Kept) error {
	switch k.Kind {
	case partSubscriptions:
		return m.DeleteSubscription(ctx, by, k.ID, nil)
	case partPresetsOn:
		return m.switchOff(ctx, by, k.ID)
	case partChannels:
		return m.DeleteChannel(ctx, by, k.Name, nil)
	case partSources:
		return m.DeleteSource(ctx, by, k.ID, nil)
	case partEndpoints:
		return m.DeleteEndpoint(ctx, by, k.ID, nil)
	case partEventTypes:
		return m.DeleteEventType(ctx, by, k.Name, nil)
	case partFilters:
		return m.DeleteFilter(ctx, by, k.Name, nil)
	case partPresets:
		return m.DeletePreset(ctx, by, k.Name, nil)
	case partGroups:
		return m.DeleteGroup(ctx, by, k.Name, nil)
	case partTemplates:
		name, at := belfry.SplitTemplateKey(k.Name)
		return m.DeleteTemplate(ctx, by, name, at, nil)
	}
	return belfry.Errorf(belfry.Internal, "nobody knows how to remove a thing of %s", k.Kind)
}

// planning is a Manager that checks and decides as m does, and stores nothing:
// what it would store it keeps, for what comes after it.
func (m *Manager) planning() *Manager {
	plan := &planStore{Store: m.store, docs: map[belfry.DocumentKey]*belfry.Document{}, subs: map[string]belfry.Subscription{}, groups: map[string]*belfry.Group{}}
	return &Manager{store: plan,
		box: m.box, now: m.now, channels: planChannels{m.channels, plan}, channelKinds: m.channelKinds, sourceKinds: m.sourceKinds, crowds: m.crowds, senders: m.senders,
		roles: m.roles, joining: m.joining, backtests: m.backtests, notices: m.notices, parts: m.parts, lost: m.lost,
		schema: m.schema, outbound: m.outbound}
}

// planStore keeps edits to itself, above a store that it only reads.
type planStore struct {
	Store
	docs   map[belfry.DocumentKey]*belfry.Document // nil = dropped
	subs   map[string]belfry.Subscription
	groups map[string]*belfry.Group
}

func (s *planStore) Apply(ctx context.Context, ch belfry.Changes) (int64, error) {
	for i := range ch.Documents {
		d := ch.Documents[i]
		s.docs[belfry.DocumentKey{Kind: d.Kind, ID: d.ID}] = &d
	}
	for _, k := range ch.DropDocuments {
		s.docs[k] = nil
	}
	for _, sub := range ch.Subscriptions {
		s.subs[sub.ID] = sub
	}
	for i := range ch.Groups {
		g := ch.Groups[i]
		if g.Members == nil {
			have, err := s.Groups(ctx, ch.Tenant, []string{g.ID})
			if err != nil {
				return 0, err
			}
			g.Members = have[g.ID].Members
		}
		s.groups[g.ID] = &g
	}
	for _, id := range ch.DropGroups {
		s.groups[id] = nil
	}
	return 0, nil
}

func (s *planStore) Document(ctx context.Context, tenant, kind, id string) (belfry.Document, bool, error) {
	if d, ok := s.docs[belfry.DocumentKey{Kind: kind, ID: id}]; ok {
		if d == nil {
			return belfry.Document{}, false, nil
		}
		return *d, true, nil
	}
	return s.Store.Document(ctx, tenant, kind, id)
}

func (s *planStore) Subscription(ctx context.Context, tenant, id string) (belfry.Subscription, bool, error) {
	if sub, ok := s.subs[id]; ok {
		return sub, true, nil
	}
	return s.Store.Subscription(ctx, tenant, id)
}

// Subscriptions are those that are stored, as they would be.
func (s *planStore) Subscriptions(ctx context.Context, tenant, after string, limit int) ([]belfry.Subscription, error) {
	list, err := s.Store.Subscriptions(ctx, tenant, after, limit)
	for i := range list {
		if sub, ok := s.subs[list[i].ID]; ok {
			list[i] = sub
		}
	}
	return list, err
}

func (s *planStore) Groups(ctx context.Context, tenant string, ids []string) (map[string]belfry.Group, error) {
	out, err := s.Store.Groups(ctx, tenant, ids)
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		if g, ok := s.groups[id]; ok && g != nil {
			out[id] = *g
		} else if ok {
			delete(out, id)
		}
	}
	return out, nil
}

// Configuration is the tenant's configuration as a manifest: what people
// declared, and not what sources write, what people subscribed to, nor secrets.
func (m *Manager) Configuration(ctx context.Context, tenant string) (Manifest, error) {
	out := Manifest{Belfry: ManifestFormat, EventTypes: []belfry.EventType{}, Filters: []belfry.SavedFilter{}, Templates: []belfry.Template{}, Groups: []belfry.Group{},
		Endpoints: []ManifestEndpoint{}, Presets: []belfry.Preset{}, Subscriptions: []ManifestSubscription{},
		Channels: []ManifestConfigured{}, Sources: []ManifestConfigured{}, PresetsOn: []ManifestPresetOn{}}
	n := 0
	more := func() error {
		if n++; n > maxManifest {
			return belfry.Errorf(belfry.TooLarge, "the configuration has more than %d things, which is more than one manifest holds: read them by their own lists", maxManifest)
		}
		return nil
	}
	err := errors.Join(
		everyDocument(ctx, m, tenant, belfry.KindEventType, func(t belfry.EventType) error {
			if t.Discovered || t.Origin != "" {
				return nil
			}
			out.EventTypes = append(out.EventTypes, t)
			return more()
		}),
		everyDocument(ctx, m, tenant, belfry.KindFilter, func(s belfry.SavedFilter) error {
			s.Readable = ""
			out.Filters = append(out.Filters, s)
			return more()
		}),
		everyDocument(ctx, m, tenant, belfry.KindTemplate, func(t belfry.Template) error {
			out.Templates = append(out.Templates, t)
			return more()
		}),
		everyDocument(ctx, m, tenant, belfry.KindPreset, func(p belfry.Preset) error {
			out.Presets = append(out.Presets, p)
			return more()
		}),
	)
	if err != nil {
		return out, err
	}
	for after, next := "", "-"; next != ""; after = next {
		var list []belfry.Endpoint
		if list, next, err = m.Endpoints(ctx, tenant, after, 1000); err != nil {
			return out, err
		}
		for _, e := range list {
			v := ManifestEndpoint{Name: e.ID, Endpoint: e}
			v.Endpoint.Headers, v.Because, v.Resumed = nil, "", time.Time{}
			out.Endpoints = append(out.Endpoints, v)
			if err := more(); err != nil {
				return out, err
			}
		}
	}
	const page = 1000
	for after := ""; ; {
		subs, err := m.store.Subscriptions(ctx, tenant, after, page)
		if err != nil {
			return out, err
		}
		for _, s := range subs {
			if s.State == belfry.SubscriptionEnded || s.Origin != belfry.FromAdmin && s.Origin != belfry.FromManifest {
				continue
			}
			v := ManifestSubscription{Name: s.ID}
			v.Subscription = s
			v.Combined, v.Because, v.Origin = "", "", ""
			out.Subscriptions = append(out.Subscriptions, v)
			if err := more(); err != nil {
				return out, err
			}
		}
		if len(subs) < page {
			break
		}
		after = subs[len(subs)-1].ID
	}
	if err := errors.Join(m.configuredGroups(ctx, tenant, &out, more), m.configuredWays(ctx, tenant, &out, more)); err != nil {
		return out, err
	}
	settings, version, err := m.TenantSettings(ctx, tenant)
	if version > 0 {
		out.Settings = &settings
	}
	return out, err
}

// configuredGroups are the groups that no source wrote.
func (m *Manager) configuredGroups(ctx context.Context, tenant string, out *Manifest, more func() error) error {
	sources := map[string]bool{}
	err := everyDocument(ctx, m, tenant, belfry.KindSource, func(c belfry.Configured) error {
		sources[c.Kind+"/"+c.Name] = true
		return nil
	})
	if err != nil {
		return err
	}
	const page = 1000
	for after := ""; ; {
		ids, err := m.store.GroupIDs(ctx, tenant, after, page)
		if err != nil {
			return err
		}
		groups, err := m.groups(ctx, tenant, ids)
		if err != nil {
			return err
		}
		for _, id := range ids {
			g := groups[id]
			if sources[g.Origin] {
				continue
			}
			g.Origin = ""
			if g.Members == nil {
				g.Members = []string{}
			}
			out.Groups = append(out.Groups, g)
			if err := more(); err != nil {
				return err
			}
		}
		if len(ids) < page {
			return nil
		}
		after = ids[len(ids)-1]
	}
}

// everyDocument reads all documents of a kind.
func everyDocument[T any](ctx context.Context, m *Manager, tenant, kind string, each func(T) error) error {
	for after := ""; ; {
		docs, next, err := m.page(ctx, tenant, kind, after, 1000)
		if err != nil {
			return err
		}
		for _, d := range docs {
			var v T
			if err := decodeDocument(d, strings.ReplaceAll(kind, "_", " "), &v); err != nil {
				return err
			}
			if err := each(v); err != nil {
				return err
			}
		}
		if next == "" {
			return nil
		}
		after = next
	}
}

// Manifests lists what was applied, by name.
func (m *Manager) Manifests(ctx context.Context, tenant, after string, limit int) ([]belfry.AppliedManifest, string, error) {
	return pageOf[belfry.AppliedManifest](ctx, m, tenant, belfry.KindManifest, "manifest", after, limit)
}

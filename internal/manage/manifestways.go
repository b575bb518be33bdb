package manage

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/belfryhq/belfry/internal/belfry"
)

// ManifestConfigured is a channel or a source. Secret settings are never in a
// file that was exported: SecretKept stands for them.
type ManifestConfigured struct {
	Name     string            `json:"name"`
	Kind     string            `json:"kind,omitempty" doc:"Absent = the name, of channels"`
	Settings map[string]string `json:"settings,omitempty" doc:"A secret one may say secret: kept, and stays; or secret: env NAME, which belfry apply reads from its environment"`
	State    string            `json:"state,omitempty" enum:"active,paused" doc:"Of sources"`
}

// ManifestPresetOn is an object where a preset is switched on.
type ManifestPresetOn struct {
	Preset string `json:"preset"`
	Object string `json:"object"`
}

// What stands for a secret in a manifest.
const (
	SecretKept  = "secret: kept"    // it stays as it is stored
	SecretEnv   = "secret: env "    // with a name behind it: belfry apply puts the variable's value there
	secretGiven = "secret: another" // in differences: it changes
)

// draft is what a manifest says, less the secrets that stay.
func (c *ManifestConfigured) draft(f *faults, pointer string, has func(setting string) bool) ConfiguredDraft {
	d := ConfiguredDraft{Name: c.Name, Kind: c.Kind, State: c.State, Settings: map[string]string{}}
	for name, value := range c.Settings {
		p := pointer + "/settings/" + escape(name)
		switch {
		case value == SecretKept && has(name):
		case value == SecretKept:
			f.add(p, "is to be kept, but none is stored: write the value, or \"%sNAME\" and set NAME where belfry apply runs", SecretEnv)
		case strings.HasPrefix(value, SecretEnv):
			f.add(p, "names a variable: belfry apply reads it, the API takes the value itself")
		default:
			d.Settings[name] = value
		}
	}
	return d
}

// comparable is what is stored as differences are looked for: secrets are said to
// be kept, or to be another than base has.
func (m *Manager) comparable(tenant string, is, base *belfry.Configured) (ManifestConfigured, error) {
	out := ManifestConfigured{Name: is.Name, Kind: is.Kind, State: is.State, Settings: map[string]string{}}
	for name, value := range is.Settings {
		out.Settings[name] = value
	}
	clear, err := is.Open(m.box, tenant)
	if err != nil {
		return out, err
	}
	var was map[string]string
	if base != nil {
		if was, err = base.Open(m.box, tenant); err != nil {
			return out, err
		}
	}
	for name := range is.Sealed {
		out.Settings[name] = SecretKept
		if base != nil && was[name] != clear[name] {
			out.Settings[name] = secretGiven
		}
	}
	return out, nil
}

// configuredItem is a channel or a source of a manifest.
func (m *Manager) configuredItem(ctx context.Context, by By, f *faults, part, kind, id string, i int, c ManifestConfigured, put func(m *Manager, d ConfiguredDraft, found bool) error) (item, error) {
	p := "/" + part + "/" + strconv.Itoa(i)
	base, err := m.configured(ctx, by.Tenant, kind, id)
	if err != nil {
		return item{}, err
	}
	d := c.draft(f, p, func(setting string) bool { return base != nil && base.Sealed[setting] != nil })
	if c.Name == "" {
		f.add(p, "has no name")
	}
	kept := belfry.Kept{Kind: part, Name: c.Name}
	if id != c.Name {
		kept.ID = id
	}
	return item{Kept: kept, pointer: p, look: func(m *Manager) (any, error) {
		is, err := m.configured(ctx, by.Tenant, kind, id)
		if err == nil && is == nil {
			err = notFound(kind, id)
		}
		if err != nil {
			return nil, err
		}
		return m.comparable(by.Tenant, is, base)
	}, put: func(m *Manager) (string, error) { return "", put(m, d, base != nil) }}, nil
}

func (m *Manager) channelItems(ctx context.Context, by By, file *Manifest, f *faults) (out []item, err error) {
	for i, c := range file.Channels {
		it, err := m.configuredItem(ctx, by, f, partChannels, belfry.KindChannel, c.Name, i, c, func(m *Manager, d ConfiguredDraft, _ bool) error {
			_, _, _, err := m.PutChannel(ctx, by, d, nil)
			return err
		})
		if err != nil {
			return nil, err
		}
		out = append(out, it)
	}
	return out, nil
}

func (m *Manager) sourceItems(ctx context.Context, by By, file *Manifest, f *faults) (out []item, err error) {
	if len(file.Sources) == 0 {
		return nil, nil
	}
	docs, err := m.store.Documents(ctx, by.Tenant, belfry.KindSource, "", 1000)
	if err != nil {
		return nil, err
	}
	ids := map[string]string{}
	for _, doc := range docs {
		var c belfry.Configured
		if err := decodeDocument(doc, "source", &c); err != nil {
			return nil, err
		}
		ids[c.Name] = doc.ID
	}
	for i, c := range file.Sources {
		id := reasonOr(ids[c.Name], belfry.ManifestID(belfry.SourcePrefix, file.Name, c.Name))
		it, err := m.configuredItem(ctx, by, f, partSources, belfry.KindSource, id, i, c, func(m *Manager, d ConfiguredDraft, found bool) error {
			if found {
				_, _, err := m.PutSource(ctx, by, id, d, nil)
				return err
			}
			_, _, err := m.saveSource(ctx, by, "source.create", id, d, nil, nil)
			return err
		})
		if err != nil {
			return nil, err
		}
		out = append(out, it)
	}
	return out, nil
}

func (m *Manager) presetItems(ctx context.Context, by By, file *Manifest) (out []item) {
	for i, on := range file.PresetsOn {
		id := belfry.PresetSubscriptionID(on.Preset, on.Object)
		out = append(out, item{Kept: belfry.Kept{Kind: partPresetsOn, Name: on.Preset + " at " + on.Object, ID: id}, pointer: "/" + partPresetsOn + "/" + strconv.Itoa(i),
			look: func(m *Manager) (any, error) {
				s, err := m.living(ctx, by.Tenant, id, nil)
				if belfry.KindOf(err) == belfry.Conflict { // switched off: as good as not there
					err = notFound("subscription", id)
				}
				return ManifestPresetOn{s.Preset, s.ScopeObject()}, err
			}, put: func(m *Manager) (string, error) {
				_, _, err := m.SwitchPreset(ctx, by, on.Preset, on.Object, "", true)
				return "", err
			}, warn: func(m *Manager) ([]string, error) {
				s, err := m.Subscription(ctx, by.Tenant, id)
				return s.Warnings, err
			}})
	}
	return out
}

// switchOff switches off what a manifest had switched on.
func (m *Manager) switchOff(ctx context.Context, by By, id string) error {
	s, err := m.living(ctx, by.Tenant, id, nil)
	if err != nil {
		return err
	}
	_, _, err = m.SwitchPreset(ctx, by, s.Preset, s.ScopeObject(), "", false)
	return err
}

// configuredWays adds channels, sources and where presets are on to an export.
func (m *Manager) configuredWays(ctx context.Context, tenant string, out *Manifest, more func() error) error {
	for kind, into := range map[string]*[]ManifestConfigured{belfry.KindChannel: &out.Channels, belfry.KindSource: &out.Sources} {
		err := everyDocument(ctx, m, tenant, kind, func(c belfry.Configured) error {
			v := ManifestConfigured{Name: c.Name, Kind: c.Kind, State: c.State, Settings: map[string]string{}}
			for name, value := range c.Settings {
				v.Settings[name] = value
			}
			for name := range c.Sealed {
				v.Settings[name] = SecretKept
			}
			if v.State == belfry.EndpointActive {
				v.State = "" // as it is without
			}
			*into = append(*into, v)
			return more()
		})
		if err != nil {
			return err
		}
	}
	slices.SortFunc(out.Sources, func(a, b ManifestConfigured) int { return strings.Compare(a.Name, b.Name) })
	for _, p := range out.Presets {
		err := m.presetPlaces(ctx, tenant, p.Name, func(s *belfry.Subscription) error {
			out.PresetsOn = append(out.PresetsOn, ManifestPresetOn{p.Name, s.ScopeObject()})
			return more()
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// planChannels knows the channels that a plan would set up or drop as well.
type planChannels struct {
	Channels
	plan *planStore
}

func (c planChannels) Known(tenant, name string) bool {
	if d, planned := c.plan.docs[belfry.DocumentKey{Kind: belfry.KindChannel, ID: name}]; planned {
		if _, always := c.Builtin()[name]; d != nil || always {
			return true
		}
		return false
	}
	return c.Channels.Known(tenant, name)
}

package manage

import (
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

// readDocument decodes one document into v and gives its version.
func (m *Manager) readDocument(ctx context.Context, tenant, kind, id, what string, v any) (int64, error) {
	doc, ok, err := m.store.Document(ctx, tenant, kind, id)
	if err != nil {
		return 0, err
	}
	if !ok {
		return 0, notFound(what, id)
	}
	return doc.Version, decodeDocument(doc, what, v)
}

func decodeDocument(doc belfry.Document, what string, v any) error {
	if err := json.Unmarshal(doc.Body, v); err != nil {
		return belfry.Errorf(belfry.Internal, "%s %s is stored in a form this version does not read: %w", what, doc.ID, err)
	}
	return nil
}

// pageOf is page, read.
func pageOf[T any](ctx context.Context, m *Manager, tenant, kind, what, after string, limit int) ([]T, string, error) {
	docs, next, err := m.page(ctx, tenant, kind, after, limit)
	if err != nil {
		return nil, "", err
	}
	out := make([]T, len(docs))
	for i, d := range docs {
		if err := decodeDocument(d, what, &out[i]); err != nil {
			return nil, "", err
		}
	}
	return out, next, nil
}

// putDocument stores v; created tells whether there was none.
func (m *Manager) putDocument(ctx context.Context, by By, action, kind, id string, v any, match Expect) (version int64, created bool, err error) {
	before, err := m.version(ctx, by.Tenant, kind, id)
	if err != nil {
		return 0, false, err
	}
	body, err := json.Marshal(v)
	if err != nil {
		return 0, false, err
	}
	ch := m.change(by, action, id)
	ch.Documents = []belfry.Document{{Kind: kind, ID: id, Body: body}}
	version, err = m.apply(ctx, ch, kind, id, match)
	return version, before == 0, err
}

func (m *Manager) dropDocument(ctx context.Context, by By, action, kind, id, what string, match Expect) error {
	if _, ok, err := m.store.Document(ctx, by.Tenant, kind, id); err != nil {
		return err
	} else if !ok {
		return notFound(what, id)
	}
	ch := m.change(by, action, id)
	ch.DropDocuments = []belfry.DocumentKey{{Kind: kind, ID: id}}
	_, err := m.apply(ctx, ch, kind, id, match)
	return err
}

// EventTypes lists the catalogue by name, discovered types included.
func (m *Manager) EventTypes(ctx context.Context, tenant, after string, limit int) ([]belfry.EventType, string, error) {
	return pageOf[belfry.EventType](ctx, m, tenant, belfry.KindEventType, "event type", after, limit)
}

// EventType is one entry of the catalogue.
func (m *Manager) EventType(ctx context.Context, tenant, name string) (belfry.EventType, int64, error) {
	var t belfry.EventType
	version, err := m.readDocument(ctx, tenant, belfry.KindEventType, name, "event type", &t)
	return t, version, err
}

// longestLife bounds how long a type's events are kept, short of for ever.
const longestLife = 36_500 * 24 * time.Hour

// PutEventType declares a type; one that was discovered or that a source
// declared is from then on a person's, and no source changes it any more.
func (m *Manager) PutEventType(ctx context.Context, by By, t belfry.EventType, match Expect) (stored belfry.EventType, version int64, created bool, err error) {
	f := &faults{}
	f.pattern("/name", t.Name)
	if len(t.Name) > 0 && t.Name[len(t.Name)-1] == '*' {
		f.add("/name", "must be one type, not a pattern")
	}
	if own := belfry.OwnEventTypes(); strings.HasPrefix(t.Name, belfry.OwnTypes) && !slices.Contains(own, t.Name) {
		if near := belfry.Nearest(t.Name, own); near != "" {
			f.add("/name", "begins with belfry., as the server's own types do, and is none of them: did you mean %s?", near)
		} else {
			f.add("/name", "begins with belfry., as the server's own types do: name it otherwise")
		}
	}
	f.line("/title", t.Title, maxName)
	f.text("/description", t.Description, maxText)
	f.line("/category", t.Category, 100)
	for locale, title := range t.Titles {
		p := "/titles/" + escape(locale)
		f.locale(p, locale)
		f.line(p, title, maxName)
	}
	if len(t.ObjectTypes) > maxTypes || len(t.SeeRoles) > maxTypes || len(t.Details) > maxTypes || len(t.Content) > maxTypes {
		f.add("", "has more than %d object types, roles or fields", maxTypes)
	} else {
		for i, d := range t.Details {
			f.key("/details/"+strconv.Itoa(i), d, 200)
		}
		for i, c := range t.Content {
			f.key("/content/"+strconv.Itoa(i), c, 200)
		}
		for i, o := range t.ObjectTypes {
			f.key("/object_types/"+strconv.Itoa(i), o, 100)
		}
		for i, r := range t.SeeRoles {
			f.key("/see_roles/"+strconv.Itoa(i), r, 100)
		}
	}
	f.subscribers("/subscribe", &t.Subscribe)
	if life, ok := belfry.ParseSpan(t.Retention); t.Retention != "" && (!ok || life != 0 && life < time.Hour || life > longestLife) {
		f.add("/retention", "must be a length of time from 1h to %s, like 30d or 12h, or 0d for ever", belfry.FormatSpan(longestLife))
	}
	t.Schema = orNothing(t.Schema)
	if s := bytes.TrimSpace(t.Schema); len(s) > 0 && string(s) != "true" && string(s) != "false" {
		n := len(f.list)
		f.object("/schema", t.Schema)
		if m.schema != nil && len(f.list) == n {
			if err := m.schema(t.Schema); err != nil {
				f.add("/schema", "cannot be used, and every event of this type would be refused: %v", err)
			}
		}
	}
	f.frequency("/frequency", t.Frequency)
	if t.Template != "" {
		f.name("/template", t.Template)
	}
	m.checkChannels(f, by.Tenant, "/channels/forced", t.Channels.Forced)
	m.checkChannels(f, by.Tenant, "/channels/default", t.Channels.Default)
	m.checkChannels(f, by.Tenant, "/channels/fallback", t.Channels.Fallback)
	for i, c := range t.Channels.Forbidden {
		p := "/channels/forbidden/" + strconv.Itoa(i)
		if f.key(p, c, 100) && slices.Contains(t.Channels.Forced, c) {
			f.add(p, "is forced too: choose one")
		}
	}
	if err := f.err(); err != nil {
		return t, 0, false, err
	}
	t.Discovered, t.Origin = false, ""
	version, created, err = m.putDocument(ctx, by, "event_type.put", belfry.KindEventType, t.Name, t, match)
	return t, version, created, err
}

// DeleteEventType takes a type out of the catalogue; when it happens again it
// is discovered again.
func (m *Manager) DeleteEventType(ctx context.Context, by By, name string, match Expect) error {
	return m.dropDocument(ctx, by, "event_type.delete", belfry.KindEventType, name, "event type", match)
}

// Setting describes one setting of a kind of channel or source.
type Setting struct {
	Name     string   `json:"name"`
	Label    string   `json:"label"`
	Type     string   `json:"type" doc:"How the text is read: text, long, url, email, number, bool, duration, choice, dsn, int"`
	Secret   bool     `json:"secret,omitempty" doc:"Stored encrypted, never shown again"`
	Required bool     `json:"required,omitempty"`
	Help     string   `json:"help,omitempty"`
	Default  string   `json:"default,omitempty"`
	Choices  []string `json:"choices,omitempty"`
}

// Kind describes a kind of channel or source.
type Kind struct {
	Name     string    `json:"name"`
	Title    string    `json:"title"`
	Help     string    `json:"help,omitempty"`
	Contact  string    `json:"contact,omitempty" doc:"The kind of contact it sends to"`
	Settings []Setting `json:"settings"`
}

// ConfiguredView is a channel or source as it is shown: settings that are
// secret are named only.
type ConfiguredView struct {
	ID       string            `json:"id,omitempty" doc:"Of sources: src_..."`
	Name     string            `json:"name"`
	Kind     string            `json:"kind"`
	Settings map[string]string `json:"settings"`
	Secret   []string          `json:"secret,omitempty" doc:"Names of settings that are set and not shown"`
	State    string            `json:"state,omitempty"`
	Builtin  bool              `json:"builtin,omitempty" doc:"Comes from the server's configuration"`

	Limit *belfry.ChannelLimit `json:"limit,omitempty" doc:"Of a channel of the server's configuration: what this tenant may send by it in all. More waits."`
	Usage *belfry.ChannelUsage `json:"usage,omitempty" doc:"How much of limit is used"`
}

// ConfiguredDraft is a channel or source to be set up. Settings that are
// secret and left out keep their value.
type ConfiguredDraft struct {
	Name     string            `json:"name,omitempty"`
	Kind     string            `json:"kind"`
	Settings map[string]string `json:"settings,omitempty"`
	State    string            `json:"state,omitempty" enum:"active,paused"`
}

func view(c belfry.Configured, id string) ConfiguredView {
	v := ConfiguredView{ID: id, Name: c.Name, Kind: c.Kind, Settings: c.Settings, State: c.State, Secret: slices.Sorted(maps.Keys(c.Sealed))}
	if v.Settings == nil {
		v.Settings = map[string]string{}
	}
	return v
}

// ChannelKinds and SourceKinds describe what can be set up.
func (m *Manager) ChannelKinds() []Kind { return m.channelKinds.Kinds() }

// SourceKinds describes the kinds of sources.
func (m *Manager) SourceKinds() []Kind { return m.sourceKinds.Kinds() }

// Channels lists, by name, the channels this tenant set up itself and those
// every tenant has, except where its own have the same name. The settings of
// the latter are the operator's and not shown.
func (m *Manager) Channels(ctx context.Context, tenant string) ([]ConfiguredView, error) {
	docs, err := m.store.Documents(ctx, tenant, belfry.KindChannel, "", 1000)
	if err != nil {
		return nil, err
	}
	list, err := views(docs, false)
	if err != nil {
		return nil, err
	}
	limits, err := m.tenantLimits(ctx, tenant)
	if err != nil {
		return nil, err
	}
	used, err := m.TenantUsage(ctx, tenant, limits)
	if err != nil {
		return nil, err
	}
	for name, kind := range m.channels.Builtin() {
		if !slices.ContainsFunc(list, func(v ConfiguredView) bool { return v.Name == name }) {
			list = append(list, builtin(name, kind, limits, used))
		}
	}
	slices.SortFunc(list, func(a, b ConfiguredView) int { return strings.Compare(a.Name, b.Name) })
	return list, nil
}

func builtin(name, kind string, limits map[string]belfry.ChannelLimit, used map[string]belfry.ChannelUsage) ConfiguredView {
	v := ConfiguredView{Name: name, Kind: kind, Settings: map[string]string{}, Builtin: true}
	if l, limited := limits[name]; limited {
		u := used[name]
		v.Limit, v.Usage = &l, &u
	}
	return v
}

func views(docs []belfry.Document, withID bool) ([]ConfiguredView, error) {
	out := make([]ConfiguredView, 0, len(docs))
	for _, d := range docs {
		var c belfry.Configured
		if err := decodeDocument(d, d.Kind, &c); err != nil {
			return nil, err
		}
		id := ""
		if withID {
			id = d.ID
		}
		out = append(out, view(c, id))
	}
	return out, nil
}

// Channel is one of them; the version of one that is not the tenant's own is 0.
func (m *Manager) Channel(ctx context.Context, tenant, name string) (ConfiguredView, int64, error) {
	var c belfry.Configured
	version, err := m.readDocument(ctx, tenant, belfry.KindChannel, name, "channel", &c)
	if kind, ok := m.channels.Builtin()[name]; ok && belfry.KindOf(err) == belfry.NotFound {
		limits, err := m.tenantLimits(ctx, tenant)
		if err != nil {
			return ConfiguredView{}, 0, err
		}
		used, err := m.TenantUsage(ctx, tenant, limits)
		return builtin(name, kind, limits, used), 0, err
	}
	return view(c, ""), version, err
}

// PutChannel sets a channel up, or changes it.
func (m *Manager) PutChannel(ctx context.Context, by By, d ConfiguredDraft, match Expect) (stored ConfiguredView, version int64, created bool, err error) {
	if d.Name == belfry.ChannelInbox || d.Name == belfry.ChannelWebhook {
		return stored, 0, false, belfry.Faults([]belfry.Field{{Pointer: "/name", Message: "channel " + d.Name + " is always there and has no settings"}})
	}
	if d.Kind == "" {
		d.Kind = d.Name
	}
	if d.State != "" {
		return stored, 0, false, belfry.Faults([]belfry.Field{{Pointer: "/state", Message: "channels have no state: leave it out"}})
	}
	before, err := m.configured(ctx, by.Tenant, belfry.KindChannel, d.Name)
	if err != nil {
		return stored, 0, false, err
	}
	c, err := m.checkConfigured(by.Tenant, m.channelKinds, d, before)
	if err != nil {
		return stored, 0, false, err
	}
	version, created, err = m.putDocument(ctx, by, "channel.put", belfry.KindChannel, d.Name, c, match)
	return view(c, ""), version, created, err
}

// DeleteChannel drops a channel this tenant set up.
func (m *Manager) DeleteChannel(ctx context.Context, by By, name string, match Expect) error {
	return m.dropDocument(ctx, by, "channel.delete", belfry.KindChannel, name, "channel", match)
}

// configured is what is stored, nil when nothing is.
func (m *Manager) configured(ctx context.Context, tenant, kind, id string) (*belfry.Configured, error) {
	var c belfry.Configured
	if _, err := m.readDocument(ctx, tenant, kind, id, kind, &c); err != nil {
		if belfry.KindOf(err) == belfry.NotFound {
			return nil, nil
		}
		return nil, err
	}
	return &c, nil
}

// checkConfigured makes the stored form of d: settings checked, secret ones
// sealed, those left out taken from before.
func (m *Manager) checkConfigured(tenant string, kinds Kinds, d ConfiguredDraft, before *belfry.Configured) (belfry.Configured, error) {
	f := &faults{}
	f.name("/name", d.Name)
	var known []string
	var kind *Kind
	all := kinds.Kinds()
	for i := range all {
		known = append(known, all[i].Name)
		if all[i].Name == d.Kind {
			kind = &all[i]
		}
	}
	if kind == nil {
		f.choice("/kind", d.Kind, known...)
	}
	if before != nil && before.Kind != d.Kind {
		f.add("/kind", "is %s and cannot be changed: delete it and make another", before.Kind)
	}
	if err := f.err(); err != nil {
		return belfry.Configured{}, err
	}
	isSecret := func(name string) bool {
		return slices.ContainsFunc(kind.Settings, func(s Setting) bool { return s.Name == name && s.Secret })
	}
	settings := maps.Clone(d.Settings)
	if settings == nil {
		settings = map[string]string{}
	}
	if before != nil {
		clear, err := before.Open(m.box, tenant)
		if err != nil {
			return belfry.Configured{}, err
		}
		for name := range before.Sealed {
			if _, given := settings[name]; !given && isSecret(name) {
				settings[name] = clear[name]
			}
		}
	}
	if err := kinds.Check(d.Kind, settings); err != nil {
		return belfry.Configured{}, err
	}
	c := belfry.Configured{Name: d.Name, Kind: d.Kind, Settings: settings, State: d.State, Created: m.now()}
	if before != nil {
		c.Created = before.Created
	}
	for name, value := range settings {
		if value == "" {
			delete(settings, name)
		}
	}
	c.Seal(m.box, tenant, isSecret)
	return c, nil
}

// Sources lists the sources by id.
func (m *Manager) Sources(ctx context.Context, tenant, after string, limit int) ([]ConfiguredView, string, error) {
	docs, next, err := m.page(ctx, tenant, belfry.KindSource, after, limit)
	if err != nil {
		return nil, "", err
	}
	out, err := views(docs, true)
	return out, next, err
}

// Source is one of them.
func (m *Manager) Source(ctx context.Context, tenant, id string) (ConfiguredView, int64, error) {
	var c belfry.Configured
	version, err := m.readDocument(ctx, tenant, belfry.KindSource, id, "source", &c)
	return view(c, id), version, err
}

// CreateSource sets a source up. Its name is in what it writes (moodle/<name>),
// so no two of a tenant share one.
func (m *Manager) CreateSource(ctx context.Context, by By, d ConfiguredDraft) (ConfiguredView, int64, error) {
	defer m.lock(by.Tenant)()
	docs, err := m.store.Documents(ctx, by.Tenant, belfry.KindSource, "", 1000)
	if err != nil {
		return ConfiguredView{}, 0, err
	}
	for _, doc := range docs {
		var c belfry.Configured
		if decodeDocument(doc, "source", &c) == nil && c.Name == d.Name {
			return ConfiguredView{}, 0, belfry.Errorf(belfry.Conflict, "there is a source %q already: %s", d.Name, doc.ID)
		}
	}
	id := belfry.NewID(belfry.SourcePrefix, m.now())
	none := int64(0)
	return m.saveSource(ctx, by, "source.create", id, d, nil, &none)
}

// PutSource changes a source; its name and kind stay.
func (m *Manager) PutSource(ctx context.Context, by By, id string, d ConfiguredDraft, match Expect) (ConfiguredView, int64, error) {
	before, err := m.configured(ctx, by.Tenant, belfry.KindSource, id)
	if err != nil {
		return ConfiguredView{}, 0, err
	}
	if before == nil {
		return ConfiguredView{}, 0, notFound("source", id)
	}
	if d.Name == "" {
		d.Name = before.Name
	}
	if d.Kind == "" {
		d.Kind = before.Kind
	}
	if d.Name != before.Name {
		return ConfiguredView{}, 0, belfry.Faults([]belfry.Field{{Pointer: "/name", Message: "cannot be changed: ids of what the source wrote hold it"}})
	}
	return m.saveSource(ctx, by, "source.put", id, d, before, match)
}

func (m *Manager) saveSource(ctx context.Context, by By, action, id string, d ConfiguredDraft, before *belfry.Configured, match Expect) (ConfiguredView, int64, error) {
	if d.State == "" {
		d.State = belfry.EndpointActive
	}
	f := &faults{}
	f.choice("/state", d.State, belfry.EndpointActive, belfry.EndpointPaused)
	if err := f.err(); err != nil {
		return ConfiguredView{}, 0, err
	}
	c, err := m.checkConfigured(by.Tenant, m.sourceKinds, d, before)
	if err != nil {
		return ConfiguredView{}, 0, err
	}
	version, _, err := m.putDocument(ctx, by, action, belfry.KindSource, id, c, match)
	return view(c, id), version, err
}

// DeleteSource stops a source for good; what it wrote stays.
func (m *Manager) DeleteSource(ctx context.Context, by By, id string, match Expect) error {
	return m.dropDocument(ctx, by, "source.delete", belfry.KindSource, id, "source", match)
}

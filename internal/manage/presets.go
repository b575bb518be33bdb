package manage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

// maxPlaces bounds at how many objects a preset is edited at once, and so at how
// many it can be on.
const maxPlaces = 10_000

// Presets lists presets by name.
func (m *Manager) Presets(ctx context.Context, tenant, after string, limit int) ([]belfry.Preset, string, error) {
	return pageOf[belfry.Preset](ctx, m, tenant, belfry.KindPreset, "preset", after, limit)
}

// Preset is one of them.
func (m *Manager) Preset(ctx context.Context, tenant, name string) (belfry.Preset, int64, error) {
	var p belfry.Preset
	version, err := m.readDocument(ctx, tenant, belfry.KindPreset, name, "preset", &p)
	return p, version, err
}

// PutPreset stores a preset, and with it the subscription that it is at each
// object where it is on.
func (m *Manager) PutPreset(ctx context.Context, by By, p belfry.Preset, match Expect) (stored belfry.Preset, version int64, created bool, err error) {
	defer m.lock(by.Tenant)() // nobody switches the old one on meanwhile, and its filters stay
	if err := m.checkPreset(ctx, by.Tenant, &p); err != nil {
		return p, 0, false, err
	}
	stored = p
	stored.Subscription.Combined = "" // of filters that may change
	body := mustJSON(stored)
	before, err := m.version(ctx, by.Tenant, belfry.KindPreset, p.Name)
	if err != nil {
		return p, 0, false, err
	}
	version, err = retry(match, func() (int64, error) {
		ch := m.change(by, "preset.put", p.Name)
		ch.Documents = []belfry.Document{{Kind: belfry.KindPreset, ID: p.Name, Body: body}}
		if err := m.reach(ctx, by.Tenant, &p, &ch); err != nil {
			return 0, err
		}
		return m.apply(ctx, ch, belfry.KindPreset, p.Name, match)
	})
	if err != nil {
		return p, 0, false, err
	}
	// What another process switched on between the look and the edit.
	_, err = retry(nil, func() (int64, error) {
		ch := m.change(by, "preset.put", p.Name)
		if err := m.reach(ctx, by.Tenant, &p, &ch); err != nil || len(ch.Subscriptions) == 0 {
			return 0, err
		}
		return m.store.Apply(ctx, ch)
	})
	return stored, version, before == 0, err
}

// mustJSON is a value of ours as JSON.
func mustJSON(v any) []byte {
	raw, err := json.Marshal(v)
	if err != nil {
		panic(err) // texts, numbers and lists of them always marshal
	}
	return raw
}

// checkPreset refuses what cannot be meant; the subscription is checked as it
// would be at the root.
func (m *Manager) checkPreset(ctx context.Context, tenant string, p *belfry.Preset) error {
	f := &faults{}
	f.name("/name", p.Name)
	f.line("/title", p.Title, maxName)
	f.text("/description", p.Description, maxText)
	if len(p.ObjectTypes) > maxTypes || len(p.Roles) > 100 {
		f.add("", "has more than %d object types or 100 roles", maxTypes)
	} else {
		keyList(f, "/object_types", p.ObjectTypes)
		keyList(f, "/roles", p.Roles)
	}
	s := &p.Subscription
	for _, given := range []struct {
		name, value, message string
	}{
		{"id", s.ID + s.Subscription.ID, "is made where the preset is switched on: leave it out"},
		{"scope/object", s.Scope.Object, "is the object where the preset is switched on: leave it out"},
		{"owner", s.Owner, "is who switches the preset on: leave it out"},
		{"state", s.State + s.Subscription.State, "is where the preset is switched on: leave it out"},
		{"because", s.Because, "is where the preset is switched on: leave it out"},
		{"origin", s.Origin, "is the server's to say: leave it out"},
		{"preset", s.Preset, "is the server's to say: leave it out"},
	} {
		if given.value != "" {
			f.add("/subscription/"+given.name, "%s", given.message)
		}
	}
	s.Subscription.Created, s.Created, s.Subscription.Version, s.Version, s.Combined = time.Time{}, time.Time{}, 0, 0, ""
	if err := f.err(); err != nil {
		return err
	}
	if _, err := m.checkSubscription(ctx, tenant, &s.Subscription); err != nil {
		return nested("/subscription", err)
	}
	return nil
}

// nested puts the faults of a part under its place.
func nested(pointer string, err error) error {
	var e *belfry.Error
	if !errors.As(err, &e) || len(e.Fields) == 0 {
		return err
	}
	list := make([]belfry.Field, len(e.Fields))
	for i, f := range e.Fields {
		list[i] = belfry.Field{Pointer: pointer + f.Pointer, Message: f.Message}
	}
	return belfry.Faults(list)
}

// presetAt is the subscription that a preset is at an object. What is the place's own
// stays: its state, its owner and when it was made.
func presetAt(p *belfry.Preset, was *belfry.Subscription) belfry.Subscription {
	s := p.Subscription.Subscription
	if s.Title == "" {
		s.Title = p.Title
	}
	s.ID, s.Scope.Object, s.Owner = was.ID, was.Scope.Object, was.Owner
	s.State, s.Because, s.Created, s.Version = was.State, was.Because, was.Created, was.Version
	s.Origin, s.Preset = belfry.FromPreset, p.Name
	return s
}

// reach adds to ch what a preset's edit changes where it is on.
func (m *Manager) reach(ctx context.Context, tenant string, p *belfry.Preset, ch *belfry.Changes) error {
	return m.presetPlaces(ctx, tenant, p.Name, func(was *belfry.Subscription) error {
		s := presetAt(p, was)
		if string(mustJSON(s)) == string(mustJSON(was)) {
			return nil
		}
		return rewrite(ch, p.Name, s)
	})
}

func rewrite(ch *belfry.Changes, preset string, s belfry.Subscription) error {
	if len(ch.Subscriptions) == maxPlaces {
		return belfry.Errorf(belfry.TooLarge, "preset %s is on at more than %d objects: make another preset for some of them, and switch them over in parts", preset, maxPlaces)
	}
	ch.Subscriptions = append(ch.Subscriptions, s)
	ch.IfMatch = append(ch.IfMatch, belfry.Expectation{Kind: belfry.KindSubscription, Key: s.ID, Version: s.Version})
	return nil
}

// presetPlaces goes through the subscriptions that a preset is and that have not
// ended.
func (m *Manager) presetPlaces(ctx context.Context, tenant, preset string, each func(*belfry.Subscription) error) error {
	const page = 1000
	ids := belfry.PresetIDs(preset)
	for after := ids; ; {
		subs, err := m.store.Subscriptions(ctx, tenant, after, page)
		if err != nil {
			return err
		}
		for i := range subs {
			if !strings.HasPrefix(subs[i].ID, ids) {
				return nil
			}
			if subs[i].Preset != preset || subs[i].State == belfry.SubscriptionEnded {
				continue
			}
			if err := each(&subs[i]); err != nil {
				return err
			}
		}
		if len(subs) < page {
			return nil
		}
		after = subs[len(subs)-1].ID
	}
}

// DeletePreset drops a preset that is on nowhere: what somebody switched on is
// not to vanish because nobody looked.
func (m *Manager) DeletePreset(ctx context.Context, by By, name string, match Expect) error {
	defer m.lock(by.Tenant)()
	n, first := 0, []string{}
	err := m.presetPlaces(ctx, by.Tenant, name, func(s *belfry.Subscription) error {
		if n++; len(first) < 5 {
			first = append(first, s.ScopeObject())
		}
		return nil
	})
	if err != nil {
		return err
	}
	if n > 0 {
		list := strings.Join(first, ", ")
		if n > len(first) {
			list += fmt.Sprintf(" and %d more", n-len(first))
		}
		return belfry.Errorf(belfry.Conflict, "preset %s is on at %s: switch it off there, or everywhere with POST /v1/presets/%s/off", name, list, name)
	}
	return m.dropDocument(ctx, by, "preset.delete", belfry.KindPreset, name, "preset", match)
}

// PresetOffEverywhere ends the subscription that a preset is at each object, and
// says at how many.
func (m *Manager) PresetOffEverywhere(ctx context.Context, by By, name, because string) (int, error) {
	f := &faults{}
	f.line("/because", because, maxName)
	if err := f.err(); err != nil {
		return 0, err
	}
	defer m.lock(by.Tenant)()
	return retry(nil, func() (int, error) {
		if _, _, err := m.Preset(ctx, by.Tenant, name); err != nil {
			return 0, err
		}
		ch := m.change(by, "preset.off", name)
		err := m.presetPlaces(ctx, by.Tenant, name, func(s *belfry.Subscription) error {
			s.State, s.Because = belfry.SubscriptionEnded, reasonOr(because, "switched off everywhere by "+by.Who)
			return rewrite(&ch, name, *s)
		})
		if err != nil || len(ch.Subscriptions) == 0 {
			return 0, err
		}
		_, err = m.store.Apply(ctx, ch)
		return len(ch.Subscriptions), err
	})
}

// PresetPlaces lists the objects where a preset is on, in the order of the
// subscriptions it is there.
func (m *Manager) PresetPlaces(ctx context.Context, tenant, name, after string, limit int) ([]belfry.PresetPlace, string, error) {
	p, _, err := m.Preset(ctx, tenant, name)
	if err != nil {
		return nil, "", err
	}
	if limit <= 0 || limit > 1000 {
		limit = 100
	}
	out := []belfry.PresetPlace{}
	enough := errors.New("enough")
	next := ""
	err = m.presetPlaces(ctx, tenant, name, func(s *belfry.Subscription) error {
		switch {
		case s.ID <= after:
			return nil
		case len(out) == limit:
			next = out[limit-1].Subscription
			return enough
		}
		out = append(out, placeOf(&p, s.ScopeObject(), s))
		return nil
	})
	if errors.Is(err, enough) {
		err = nil
	}
	return out, next, err
}

func placeOf(p *belfry.Preset, object string, s *belfry.Subscription) belfry.PresetPlace {
	out := belfry.PresetPlace{Preset: p.Name, Title: p.Title, Description: p.Description, Object: object, State: belfry.PresetOff}
	if s == nil {
		return out
	}
	out.Subscription, out.Because, out.Owner = s.ID, s.Because, s.Owner
	switch s.State {
	case belfry.SubscriptionActive:
		out.State = belfry.PresetOn
	case belfry.SubscriptionPaused:
		out.State = belfry.PresetPaused
	}
	return out
}

// PresetsAt lists the presets that can be switched on at an object, or are, and
// what they are there. With a user, those that she may switch.
func (m *Manager) PresetsAt(ctx context.Context, tenant, object, user, after string, limit int) ([]belfry.PresetPlace, string, error) {
	typ, err := m.typeOf(ctx, tenant, object)
	if err != nil {
		return nil, "", err
	}
	places, err := m.places(ctx, tenant, object)
	if err != nil {
		return nil, "", err
	}
	above := make([]string, len(places))
	for id, distance := range places {
		above[distance] = id
	}
	presets, next, err := m.Presets(ctx, tenant, after, limit)
	if err != nil {
		return nil, "", err
	}
	out := []belfry.PresetPlace{}
	for i := range presets {
		p := &presets[i]
		if user != "" {
			if err := m.mayPreset(ctx, tenant, p, object, user); belfry.KindOf(err) == belfry.Forbidden {
				continue
			} else if err != nil {
				return nil, "", err
			}
		}
		var here *belfry.Subscription
		var over []string
		for distance, id := range above {
			s, ok, err := m.store.Subscription(ctx, tenant, belfry.PresetSubscriptionID(p.Name, id))
			switch {
			case err != nil:
				return nil, "", err
			case !ok || s.Preset != p.Name:
			case distance == 0:
				here = &s
			case s.State != belfry.SubscriptionEnded && wants(&s, "", places):
				over = append(over, id)
			}
		}
		place := placeOf(p, object, here)
		if place.Above = over; place.State == belfry.PresetOff && !fits(p, typ) {
			continue
		}
		out = append(out, place)
	}
	return out, next, nil
}

// typeOf is the type of an object that is there; the root has none.
func (m *Manager) typeOf(ctx context.Context, tenant, object string) (string, error) {
	objects, err := m.store.Objects(ctx, tenant, []string{object})
	if err != nil {
		return "", err
	}
	o, ok := objects[object]
	if object != belfry.RootObject && (!ok || o.Deleted != nil) {
		return "", notFound("object", object)
	}
	return o.Type, nil
}

func fits(p *belfry.Preset, objectType string) bool {
	return len(p.ObjectTypes) == 0 || slices.Contains(p.ObjectTypes, objectType)
}

// mayPreset refuses a user who does not administer an object as a preset asks:
// who holds one of its roles there, or above it, does.
func (m *Manager) mayPreset(ctx context.Context, tenant string, p *belfry.Preset, object, user string) error {
	if len(p.Roles) == 0 {
		return belfry.Errorf(belfry.Forbidden, "preset %s names no roles: administrators alone switch it", p.Name)
	}
	why, err := m.roles.Lacks(ctx, tenant, object, user, p.Roles)
	switch {
	case err != nil || why == nil:
		return err
	case why.Code == belfry.UserUnknown:
		return belfry.Faults([]belfry.Field{{Pointer: "/user", Message: fmt.Sprintf("there is no user %q", user)}})
	case why.Code == belfry.MayNotSee:
		return belfry.Errorf(belfry.Forbidden, "preset %s is switched by holders of %s at %s: %s is none", p.Name, strings.Join(p.Roles, ", "), object, user)
	}
	return belfry.Errorf(belfry.Forbidden, "%s may not switch preset %s at %s: %s", user, p.Name, object, why.Text())
}

// SwitchPreset switches a preset on or off at an object, for a user who
// administers it, or, without one, for an administrator. Doing it again changes
// nothing; on again, those who opted out there still have.
func (m *Manager) SwitchPreset(ctx context.Context, by By, name, object, user string, on bool) (out Stored, created bool, err error) {
	defer m.lock(by.Tenant)() // the preset and its filters stay as they are
	typ, err := m.typeOf(ctx, by.Tenant, object)
	if err != nil {
		return out, false, err
	}
	out, err = retry(nil, func() (Stored, error) {
		p, version, err := m.Preset(ctx, by.Tenant, name)
		if err != nil {
			return Stored{}, err
		}
		if user != "" {
			if err := m.mayPreset(ctx, by.Tenant, &p, object, user); err != nil {
				return Stored{}, err
			}
		}
		id := belfry.PresetSubscriptionID(name, object)
		was, found, err := m.store.Subscription(ctx, by.Tenant, id)
		if err != nil {
			return Stored{}, err
		}
		lives := found && was.State != belfry.SubscriptionEnded
		created = false
		switch {
		case on && lives:
			return m.describe(ctx, by.Tenant, was)
		case !on && !found:
			return Stored{}, belfry.Errorf(belfry.NotFound, "preset %s was never on at %s", name, object)
		case !on && !lives:
			return m.describe(ctx, by.Tenant, was)
		}
		who := by.Who
		if user != "" {
			who = user
		}
		if !on {
			v := was.Version
			was.State, was.Because = belfry.SubscriptionEnded, "switched off by "+who
			known, err := m.gather(ctx, by.Tenant, &was)
			if err != nil {
				return Stored{}, err
			}
			return m.saveSubscription(ctx, by, "preset.off", was, v, known)
		}
		if !fits(&p, typ) {
			return Stored{}, belfry.Errorf(belfry.Conflict, "preset %s is for objects of type %s: %s is %s", name, strings.Join(p.ObjectTypes, ", "), object, orNone(typ))
		}
		was.ID, was.Scope.Object, was.Owner = id, object, user
		was.State, was.Because, was.Created = belfry.SubscriptionActive, "", m.now()
		s := presetAt(&p, &was)
		if _, err := m.checkSubscription(ctx, by.Tenant, &s); err != nil {
			return Stored{}, belfry.Errorf(belfry.Conflict, "preset %s cannot be switched on as it is: %w; an administrator mends it with PUT /v1/presets/%s", name, err, name)
		}
		ch := m.change(by, "preset.on", id)
		ch.Audit[0].Detail = name + " at " + object
		ch.Subscriptions = []belfry.Subscription{s}
		ch.IfMatch = []belfry.Expectation{{Kind: belfry.KindSubscription, Key: id, Version: was.Version}, {Kind: belfry.KindPreset, Key: name, Version: version}}
		v, err := m.store.Apply(ctx, ch)
		if err != nil {
			return Stored{}, err
		}
		created = true
		s.Version = v
		return m.describe(ctx, by.Tenant, s)
	})
	return out, created, err
}

func orNone(typ string) string {
	if typ == "" {
		return "of none"
	}
	return "of type " + typ
}

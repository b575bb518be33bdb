package belfry

import "time"

// Configured is the stored form of a channel or a source: a kind and its
// settings, those that are secret sealed. It is the body of documents of
// KindChannel and KindSource.
type Configured struct {
	Name     string            `json:"name"`
	Kind     string            `json:"kind"`
	Settings map[string]string `json:"settings,omitempty"`
	Sealed   map[string][]byte `json:"sealed,omitempty"` // by name of setting
	State    string            `json:"state,omitempty"`  // sources: active (default) | paused
	Created  time.Time         `json:"created,omitzero"`
}

// opener opens what was sealed; package secret has one.
type opener interface {
	Open(sealed, associated []byte) ([]byte, error)
}

// sealer seals; package secret has one.
type sealer interface {
	Seal(clear, associated []byte) []byte
}

// Seal moves the named settings from Settings, in clear, to Sealed.
func (c *Configured) Seal(box sealer, tenant string, secret func(setting string) bool) {
	for name, value := range c.Settings {
		if !secret(name) {
			continue
		}
		delete(c.Settings, name)
		if c.Sealed == nil {
			c.Sealed = map[string][]byte{}
		}
		c.Sealed[name] = box.Seal([]byte(value), c.context(tenant, name))
	}
}

// Open is all settings in clear.
func (c *Configured) Open(box opener, tenant string) (map[string]string, error) {
	values := make(map[string]string, len(c.Settings)+len(c.Sealed))
	for k, v := range c.Settings {
		values[k] = v
	}
	for name, sealed := range c.Sealed {
		clear, err := box.Open(sealed, c.context(tenant, name))
		if err != nil {
			return nil, Errorf(Internal, "setting %s of %s cannot be opened: is the key it was sealed with still in secret_key? %w", name, c.Name, err)
		}
		values[name] = string(clear)
	}
	return values, nil
}

// context binds a sealed setting to its place, so that it opens nowhere else.
func (c *Configured) context(tenant, setting string) []byte {
	return []byte("setting\x00" + tenant + "\x00" + c.Kind + "\x00" + c.Name + "\x00" + setting)
}

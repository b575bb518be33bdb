package belfry

import (
	"crypto/sha256"
	"time"
)

// KindPreset are documents that hold presets, by name.
const KindPreset = "preset"

// Preset is a subscription that an administrator predefined. Whoever administers
// an object switches it on there, as it is.
type Preset struct {
	Name         string             `json:"name"`
	Title        string             `json:"title,omitempty"`
	Description  string             `json:"description,omitempty"`
	ObjectTypes  []string           `json:"object_types,omitempty"` // of the objects where it can be switched on; empty = any
	Roles        []string           `json:"roles,omitempty"`        // whoever holds one of them at an object, or above it, administers it; empty = administrators alone
	Subscription PresetSubscription `json:"subscription"`           // without a place: that is the object where it is switched on
}

// PresetSubscription is a subscription that is nowhere yet, and so has no
// state.
type PresetSubscription struct {
	Subscription
	ID      string    `json:"id,omitempty"`
	State   string    `json:"state,omitempty"`
	Created time.Time `json:"created,omitzero"`
	Version int64     `json:"version,omitempty"`
}

// PresetSubscriptionID is the id of the subscription that a preset is at an
// object. Those of one preset stand together in the order of ids, behind
// PresetIDs of its name.
func PresetSubscriptionID(preset, object string) string {
	sum := sha256.Sum256([]byte(preset + "\x00" + object))
	return PresetIDs(preset) + idEncoding.EncodeToString(sum[:])[:16]
}

// PresetIDs begins the ids of the subscriptions that a preset is anywhere.
// Another preset's may begin so too, if rarely: Subscription.Preset tells.
func PresetIDs(preset string) string {
	sum := sha256.Sum256([]byte(preset))
	return SubscriptionPrefix + "preset" + idEncoding.EncodeToString(sum[:])[:10]
}

// What a preset is at an object.
const (
	PresetOff    = "off"
	PresetOn     = "on"
	PresetPaused = "paused" // on, and paused
)

// PresetPlace is a preset at an object.
type PresetPlace struct {
	Preset       string `json:"preset"`
	Title        string `json:"title,omitempty"`
	Description  string `json:"description,omitempty"`
	Object       string `json:"object"`
	State        string `json:"state"`                  // off | on | paused
	Because      string `json:"because,omitempty"`      // why it is paused, or was switched off
	Subscription string `json:"subscription,omitempty"` // that it is, or was; none = it was never switched on there
	Owner        string `json:"owner,omitempty"`        // who switched it on, if a user did
	// Above are the objects above where it is on for what is below them: the
	// closest first.
	Above []string `json:"above,omitempty"`
}

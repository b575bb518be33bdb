package belfry

import (
	"crypto/sha256"
	"time"
)

// KindManifest are documents that say what a manifest keeps, by its name.
const KindManifest = "manifest"

// ManifestID is the id of what a manifest makes under a name: the same whenever
// and wherever it is applied.
func ManifestID(prefix, manifest, name string) string {
	sum := sha256.Sum256([]byte(manifest + "\x00" + name))
	return prefix + "manifest" + idEncoding.EncodeToString(sum[:])[:20]
}

// AppliedManifest is what was applied last under a name.
type AppliedManifest struct {
	Name    string    `json:"name"`
	Entries []Kept    `json:"entries"`
	At      time.Time `json:"at"`
	By      string    `json:"by"`
}

// Kept is a thing that a manifest keeps.
type Kept struct {
	Kind string `json:"kind"` // the part of the manifest it stands in, like event_types
	Name string `json:"name"` // in the manifest
	ID   string `json:"id,omitempty"`
	Made bool   `json:"made,omitempty"` // by it; what was there before is never removed by it
}

package belfry_test

import (
	"testing"

	"github.com/belfryhq/belfry/internal/belfry"
)

func TestNearest(t *testing.T) {
	known := []string{"id", "source", "type", "object", "related", "data_dir", "database", "now"}
	for name, want := range map[string]string{
		"tpye": "type", "objekt": "object", "Related": "related", "databse": "database",
		"datadir": "data_dir", "zzz": "", "": "", "sources": "source", "sid": "id", "foo": "", "ip": "id",
	} {
		if got := belfry.Nearest(name, known); got != want {
			t.Errorf("Nearest(%q) = %q, want %q", name, got, want)
		}
	}
}

package connector

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/belfryhq/belfry/internal/belfry"
)

func TestValues(t *testing.T) {
	described := []Setting{
		{Name: "dsn", Type: TypeDSN, Secret: true, Required: true},
		{Name: "site", Type: TypeURL, Required: true},
		{Name: "poll", Type: TypeDuration, Default: "1s"},
		{Name: "limit", Type: TypeInt},
		{Name: "tls", Type: TypeBool, Default: "true"},
		{Name: "prefix", Type: TypeText, Default: "mdl_"},
	}
	for name, tc := range map[string]struct {
		given  map[string]string
		want   map[string]string
		faults []string
	}{
		"defaults": {
			given: map[string]string{"dsn": "postgres://x", "site": "https://school.example"},
			want:  map[string]string{"dsn": "postgres://x", "site": "https://school.example", "poll": "1s", "tls": "true", "prefix": "mdl_"},
		},
		"given wins":   {given: map[string]string{"dsn": "d", "site": "http://a", "poll": "5s", "limit": "7", "tls": "0", "prefix": "m2_"}, want: map[string]string{"dsn": "d", "site": "http://a", "poll": "5s", "limit": "7", "tls": "0", "prefix": "m2_"}},
		"missing":      {given: nil, faults: []string{"/settings/dsn", "/settings/site"}},
		"unknown":      {given: map[string]string{"dsn": "d", "site": "http://a", "pol/l": "1s"}, faults: []string{"/settings/pol~1l"}},
		"wrong types":  {given: map[string]string{"dsn": "d", "site": "school.example", "poll": "soon", "limit": "many", "tls": "maybe"}, faults: []string{"/settings/site", "/settings/poll", "/settings/limit", "/settings/tls"}},
		"not positive": {given: map[string]string{"dsn": "d", "site": "ftp://a", "poll": "-1s"}, faults: []string{"/settings/site", "/settings/poll"}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Values(described, tc.given)
			var pointers []string
			if e, ok := err.(*belfry.Error); ok {
				for _, f := range e.Fields {
					pointers = append(pointers, f.Pointer)
				}
			}
			if diff := cmp.Diff(tc.faults, pointers); diff != "" {
				t.Errorf("faults (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("values (-want +got):\n%s", diff)
			}
		})
	}
}

func TestValuesNeverRepeatsASecret(t *testing.T) {
	_, err := Values([]Setting{{Name: "token", Type: TypeInt, Secret: true}}, map[string]string{"token": "hunter2"})
	if err == nil || len(err.Error()) == 0 {
		t.Fatal("want a fault")
	}
	if got := err.Error(); got != "/settings/token: the value is not a whole number" {
		t.Errorf("message %q", got)
	}
}

package belfry

import (
	"reflect"
	"testing"
	"time"
)

func TestEndpointCodecKeepsSecrets(t *testing.T) {
	until := time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
	e := Endpoint{ID: "ep_1", URL: "https://example.org/hook", State: EndpointActive, Version: 3,
		Headers: map[string]string{"X-A": "b"},
		Secrets: []EndpointSecret{{Sealed: []byte{1, 2}}, {Sealed: []byte{3}, Until: &until}}}
	body, err := EncodeEndpoint(e)
	if err != nil {
		t.Fatal(err)
	}
	got, err := DecodeEndpoint(Document{Kind: KindEndpoint, ID: "ep_1", Body: body, Version: 7})
	if err != nil {
		t.Fatal(err)
	}
	e.Version = 7
	if !reflect.DeepEqual(got, e) {
		t.Fatalf("got %+v\nwant %+v", got, e)
	}
	if _, err := DecodeEndpoint(Document{ID: "ep_2", Body: []byte("[")}); KindOf(err) != Internal {
		t.Fatalf("broken body: %v", err)
	}
}

func TestNormaliseEmail(t *testing.T) {
	if got := NormaliseEmail("  Ada@Example.ORG\n"); got != "ada@example.org" {
		t.Fatal(got)
	}
}
